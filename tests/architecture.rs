//! Holds docs/ARCHITECTURE.md and the other documents against the source: the graph of modules and
//! its direction, the code map, links, and what messages may refer to.
//!
//! After a change of imports, `UPDATE_ARCHITECTURE=1 cargo test --test architecture` writes the graph
//! anew. The order of its lines is the order of layers and is kept: a module imports only modules
//! that stand below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
/// The fenced block of the graph.
const GRAPH_START: &str = "```text modules\n";
const GRAPH_END: &str = "```\n";
/// Imports against the order that are still to be removed. No new ones.
const KNOWN_UPWARD: [&str; 0] = [];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a folder, with paths relative to the repository.
fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if extensions
                .iter()
                .any(|e| path.extension().is_some_and(|x| x == *e))
            {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A source file without comments and unit tests. None for a file of tests.
fn production_code(path: &Path) -> Option<String> {
    let is_test = |part: &std::ffi::OsStr| ["tests", "testing"].iter().any(|name| part == *name);
    if path.with_extension("").iter().any(is_test) {
        return None;
    }
    let text = read(path);
    let text = match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => &text[..at],
        None => &text,
    };
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    Some(lines.collect::<Vec<_>>().join("\n"))
}

/// The first names of all paths that begin with `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        if code[..at].ends_with('$') {
            continue;
        }
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut name = String::new();
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(identifier(name.trim()));
                    name.clear();
                }
                _ if depth == 0 => name.push(c),
                _ => {}
            }
        }
        names.insert(identifier(name.trim()));
    }
    names.remove("");
    names
}

fn identifier(text: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
    text.chars().take_while(is_part).collect()
}

/// The modules directly below the crate's root, with those that each one imports.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for path in files("src", &["rs"]) {
        let inside = path.strip_prefix("src").unwrap();
        let module = inside.iter().next().unwrap().to_string_lossy();
        let module = module.trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(code) = production_code(&path) else {
            continue;
        };
        let mut imports = imports(&code);
        imports.remove(&module);
        graph.entry(module).or_default().extend(imports);
    }
    graph
}

/// The text of the graph in the order of `order`, with modules that are not in it first.
fn drawn(graph: &BTreeMap<String, BTreeSet<String>>, order: &[String]) -> String {
    let place = |name: &String| order.iter().position(|other| other == name);
    let mut modules: Vec<&String> = graph.keys().collect();
    modules.sort_by_key(|name| place(name));
    let line = |name: &String| {
        let mut imports: Vec<&String> = graph[name].iter().collect();
        imports.sort_by_key(|name| place(name));
        let imports: Vec<&str> = imports.iter().map(|name| name.as_str()).collect();
        let line = format!("{name:<12} -> {}", imports.join(" "));
        format!("{}\n", line.trim_end().trim_end_matches(" ->"))
    };
    modules.into_iter().map(line).collect()
}

#[test]
fn modules_import_only_what_stands_below_them() {
    let text = read(ARCHITECTURE);
    let start = text.find(GRAPH_START).expect("no graph of modules") + GRAPH_START.len();
    let end = start + text[start..].find(GRAPH_END).unwrap();
    let order: Vec<String> = text[start..end].lines().map(identifier).collect();
    let graph = graph();
    let drawn = drawn(&graph, &order);
    if std::env::var_os("UPDATE_ARCHITECTURE").is_some() {
        let text = format!("{}{drawn}{}", &text[..start], &text[end..]);
        fs::write(root().join(ARCHITECTURE), text).unwrap();
    } else {
        assert_eq!(
            text[start..end],
            drawn,
            "{ARCHITECTURE} differs from the source; UPDATE_ARCHITECTURE=1 cargo test --test \
             architecture writes:\n{drawn}"
        );
    }
    let order: Vec<String> = drawn.lines().map(identifier).collect();
    let place = |name: &String| order.iter().position(|other| other == name);
    let upward: Vec<String> = graph
        .iter()
        .flat_map(|(module, imports)| imports.iter().map(move |import| (module, import)))
        .filter(|(module, import)| place(import) <= place(module))
        .map(|(module, import)| format!("{module} imports {import}"))
        .collect();
    assert_eq!(upward, KNOWN_UPWARD, "imports against the order of layers");
}

/// Libraries, and the only modules that may use them.
const LIBRARIES: [(&str, &[&str]); 9] = [
    ("libbpf_rs", &["bpf", "capture"]),
    ("libbpf_sys", &["bpf", "capture"]),
    ("perf_event_open", &["capture"]),
    ("blazesym", &["stacks"]),
    ("framehop", &["stacks"]),
    ("serde_json::", &["export"]),
    ("ratatui", &["tui"]),
    ("crossterm", &["tui", "report"]),
    ("ureq", &["target"]),
];

#[test]
fn libraries_are_used_in_their_modules_only() {
    let mut misused = Vec::new();
    let mut used = BTreeSet::new();
    for path in files("src", &["rs"]) {
        let Some(code) = production_code(&path) else {
            continue;
        };
        let module = path.iter().nth(1).unwrap().to_string_lossy();
        let module = module.trim_end_matches(".rs");
        for (library, modules) in LIBRARIES {
            if !code.contains(library) {
                continue;
            }
            used.insert(library);
            if !modules.contains(&module) {
                misused.push(format!("{}: {library}", path.display()));
            }
        }
    }
    assert!(misused.is_empty(), "{misused:?}");
    assert_eq!(used.len(), LIBRARIES.len(), "only {used:?} are used");
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<PathBuf> = ["src", "tests", "benches", "examples"]
        .iter()
        .flat_map(|folder| files(folder, &["rs"]))
        .filter(|path| !read(path).starts_with("//! "))
        .collect();
    assert!(
        silent.is_empty(),
        "without an opening //! paragraph: {silent:?}"
    );
}

/// What stands in backticks in the first column of the tables after `heading`.
fn mapped(text: &str, heading: &str) -> Vec<String> {
    let section = text.split(heading).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|cell| cell.split('`').step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_code_map_names_what_is_there() {
    let text = read(ARCHITECTURE);
    let names = mapped(&text, "## Code map");
    assert!(names.len() > 20, "{names:?}");
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !root().join("src").join(name).exists() && !root().join(name).exists())
        .collect();
    assert!(
        missing.is_empty(),
        "in the code map, but not in the source: {missing:?}"
    );
    let unmapped: Vec<String> = graph()
        .into_keys()
        .filter(|module| {
            let is_it = |name: &String| {
                let name = name.trim_end_matches('/').trim_end_matches(".rs");
                name == module || name.starts_with(&format!("{module}/"))
            };
            !names.iter().any(is_it)
        })
        .collect();
    assert!(
        unmapped.is_empty(),
        "in the source, but not in the code map: {unmapped:?}"
    );
}

/// The anchors that a renderer gives to the headings of a document.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    text.lines()
        .filter_map(|line| {
            in_code ^= line.starts_with("```");
            let heading = line.trim_start_matches('#');
            (!in_code && heading.len() < line.len()).then_some(heading.trim())
        })
        .map(|heading| {
            let kept = heading.to_lowercase();
            let kept = kept
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = files("docs", &["md"]);
    documents.extend(
        fs::read_dir(root())
            .unwrap()
            .map(|entry| PathBuf::from(entry.unwrap().file_name()))
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    let mut broken = Vec::new();
    for document in &documents {
        let text = read(document);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.contains("://") || target.contains('\n') {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let path = root().join(path);
            let leads = path.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(path).unwrap()).contains(anchor));
            if !leads {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// An installed binary has no docs folder beside it: messages say it themselves, or name a section
/// of `hud --help`.
#[test]
fn messages_do_not_refer_to_files_of_the_repository() {
    let referring: Vec<String> = files("src", &["rs"])
        .iter()
        .filter_map(|path| Some((path, production_code(path)?)))
        .flat_map(|(path, code)| {
            let lines = code
                .lines()
                .filter(|line| line.contains("docs/") || line.contains(".md"));
            let lines = lines.map(|line| format!("{}: {}", path.display(), line.trim()));
            lines.collect::<Vec<_>>()
        })
        .collect();
    assert!(referring.is_empty(), "{referring:#?}");
}

/// `hud --help` names a section that a message refers to.
#[test]
fn sections_of_the_help_that_messages_name_exist() {
    let help = read("src/cli/help.rs");
    for path in files("src", &["rs"]) {
        let Some(code) = production_code(&path) else {
            continue;
        };
        for line in code.lines().filter(|line| line.contains("hud --help")) {
            for section in line
                .split('\'')
                .skip(1)
                .step_by(2)
                .filter(|s| s.contains(' '))
            {
                assert!(
                    help.contains(&format!("\n{section}:\n")),
                    "{}: {section}",
                    path.display()
                );
            }
        }
    }
}
