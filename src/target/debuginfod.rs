//! A client of debuginfod servers: downloads the debug info of a build into the cache that other
//! clients use as well.
//!
//! Only with `--debuginfod`, since the servers learn which builds the user profiles. It sends one
//! request for each module: `GET SERVER/buildid/ID/debuginfo`.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::elf::{self, BuildId};
use super::mapped_file::open_regular;
use crate::failure::{Failure, Kind};

/// Base URLs of servers, separated by white space.
pub const URLS: &str = "DEBUGINFOD_URLS";
/// The cache directory, if not the usual one.
const CACHE_PATH: &str = "DEBUGINFOD_CACHE_PATH";
/// Seconds until a request times out.
const TIMEOUT: &str = "DEBUGINFOD_TIMEOUT";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Limit of a download, bytes.
const MAX_BYTES: u64 = 4 << 30;
const CHUNK: usize = 1 << 16;

/// A client of one or several servers.
#[derive(Clone, Debug)]
pub struct Debuginfod {
    agent: Agent,
    servers: Vec<String>,
    /// None where there is no home directory.
    cache: Option<PathBuf>,
}

impl Debuginfod {
    /// A client configured by the environment variables that all clients share.
    ///
    /// # Errors
    /// When they name no server.
    pub fn from_env() -> Result<Debuginfod, Failure> {
        let text = |name| std::env::var(name).unwrap_or_default();
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let urls = text(URLS);
        let servers: Vec<String> = urls.split_ascii_whitespace().map(str::to_owned).collect();
        if servers.is_empty() {
            let what = format!("--debuginfod: {URLS} names no server");
            return Err(Failure::new(Kind::Usage, what).hint(format!(
                "export {URLS}=https://debuginfod.elfutils.org (and keep it through sudo with \
                 sudo --preserve-env={URLS})"
            )));
        }
        let cache = path(CACHE_PATH).map(PathBuf::from).or_else(|| {
            let home = || path("HOME").map(|home| Path::new(&home).join(".cache"));
            let base = path("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
            Some(base.join("debuginfod_client"))
        });
        let timeout = text(TIMEOUT).parse().ok().filter(|seconds| *seconds > 0);
        let timeout = timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        Ok(Debuginfod::new(servers, cache, timeout))
    }

    fn new(servers: Vec<String>, cache: Option<PathBuf>, timeout: Duration) -> Debuginfod {
        // The machine's certificates, since companies run their own servers.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .user_agent(concat!("hud/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .tls_config(tls.build())
            .build();
        Debuginfod {
            agent: Agent::new_with_config(config),
            servers,
            cache,
        }
    }

    /// The debug info of that build, from the cache or from the first server that has it; None where
    /// no server does. `name` is the module's, for messages to `progress`.
    pub fn fetch(
        &self,
        id: &BuildId,
        name: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Option<(File, PathBuf)> {
        if let Some(path) = self.cache_path(id)
            && let Ok(file) = open_regular(&path)
            && elf::build_id(&file).as_ref() == Some(id)
        {
            return Some((file, path));
        }
        for server in &self.servers {
            progress(&format!("asking {server} for the debug info of {name}"));
            let url = format!("{}/buildid/{id}/debuginfo", server.trim_end_matches('/'));
            match self.get(&url, id) {
                Ok(Some(found)) => return Some(found),
                Ok(None) => {}
                Err(error) => progress(&format!("no debug info of {name} from {server}: {error}")),
            }
        }
        None
    }

    fn cache_path(&self, id: &BuildId) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.join(id.to_string()).join("debuginfo"))
    }

    /// Downloads the file; None where the server does not have it.
    fn get(&self, url: &str, id: &BuildId) -> io::Result<Option<(File, PathBuf)>> {
        let response = match self.agent.get(url).call() {
            Ok(response) => response,
            Err(ureq::Error::StatusCode(404)) => return Ok(None),
            Err(error) => return Err(error.into_io()),
        };
        let mut body = response.into_body().into_reader();
        let place = self.cache_path(id);
        let directory = place.as_deref().and_then(Path::parent);
        let mut file = match directory.map(|dir| (fs::create_dir_all(dir), dir)) {
            Some((Ok(()), dir)) => tempfile::NamedTempFile::new_in(dir)?,
            // Without a cache it is used for this session alone.
            _ => tempfile::NamedTempFile::new()?,
        };
        let mut chunk = vec![0; CHUNK];
        let mut total = 0;
        loop {
            let read = body.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            if total > MAX_BYTES {
                return Err(io::Error::other("more than 4 GiB"));
            }
            file.write_all(chunk.get(..read).unwrap_or_default())?;
        }
        file.rewind()?;
        if elf::build_id(file.as_file()).as_ref() != Some(id) {
            return Err(io::Error::other("the file it sent is not of that build"));
        }
        Ok(Some(
            match place.filter(|place| file.path().parent() == place.parent()) {
                Some(place) => (file.persist(&place)?, place),
                None => (file.into_file(), PathBuf::from(url)),
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A server on the loopback interface that has one file, and what it was asked for.
    fn serve(path: &str, body: Vec<u8>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (path, log) = (path.to_owned(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request = lines.next().unwrap().unwrap();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                let (status, body) = match request.starts_with(&format!("GET {path} ")) {
                    true => ("200 OK", &body[..]),
                    false => ("404 Not Found", &b""[..]),
                };
                log.lock().unwrap().push(request);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(body).unwrap();
            }
        });
        (url, asked)
    }

    fn client(servers: &[&str], cache: Option<&Path>) -> Debuginfod {
        let servers = servers.iter().map(|url| (*url).to_owned()).collect();
        let timeout = Duration::from_secs(5);
        Debuginfod::new(servers, cache.map(Path::to_owned), timeout)
    }

    #[test]
    fn a_file_is_downloaded_once_and_cached() {
        let program = fs::read("/bin/sleep").unwrap();
        let id = elf::build_id(&File::open("/bin/sleep").unwrap()).unwrap();
        let (without, asked_first) = serve("/nothing", Vec::new());
        let (with, asked) = serve(&format!("/sub/buildid/{id}/debuginfo"), program.clone());
        let cache = tempfile::tempdir().unwrap();
        let client = client(&[&without, &format!("{with}/sub/")], Some(cache.path()));
        let mut said = Vec::new();
        for _ in 0..2 {
            let found = client.fetch(&id, "sleep", &mut |what| said.push(what.to_owned()));
            let (mut file, path) = found.unwrap();
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, program);
            assert_eq!(path, cache.path().join(id.to_string()).join("debuginfo"));
        }
        assert_eq!(asked_first.lock().unwrap().len(), 1);
        assert_eq!(asked.lock().unwrap().len(), 1);
        assert_eq!(said.len(), 2, "{said:?}");
        // Without a cache it is downloaded all the same.
        let uncached = self::client(&[&format!("{with}/sub")], None);
        assert!(uncached.fetch(&id, "sleep", &mut |_| ()).is_some());
    }

    #[test]
    fn a_file_of_another_build_is_refused_and_not_cached() {
        let id: BuildId = "00112233".parse().unwrap();
        let place = format!("/buildid/{id}/debuginfo");
        for body in [fs::read("/bin/sleep").unwrap(), b"<html>".to_vec()] {
            let (url, _) = serve(&place, body);
            let cache = tempfile::tempdir().unwrap();
            let mut said = String::new();
            let client = client(&[&url], Some(cache.path()));
            assert!(client.fetch(&id, "app", &mut |what| said += what).is_none());
            assert!(said.contains("not of that build"), "{said}");
            let kept = fs::read_dir(cache.path().join(id.to_string())).unwrap();
            assert_eq!(kept.count(), 0);
        }
        // No server listens here any more.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let mut said = String::new();
        let client = client(&[&url], None);
        assert!(client.fetch(&id, "app", &mut |what| said += what).is_none());
        assert!(said.contains("no debug info of app"), "{said}");
    }
}
