//! Reads debug info unit by unit: the entries of a compile unit are read only once something in it is
//! needed. What the types mean is in `types`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use gimli::{
    Abbreviations, Attribute, AttributeValue, DebugAbbrev, DebugAbbrevOffset, DebugInfo,
    DebugStrOffsetsBase, DebuggingInformationEntry, DwTag, EndianSlice, LittleEndian, UnitHeader,
    UnitOffset, UnitType,
};

use super::elf::Section;
use super::sections::Sections;

pub type Slice<'s> = EndianSlice<'s, LittleEndian>;

/// Bytes of a unit that hold its header and the attributes of its root entry.
const HEAD: u64 = 160;

/// Limit of the entries read below one entry: no type of Tokio's has nearly as many.
const MAX_SUBTREE: usize = 20_000;

/// Identifies an entry of the debug info.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryRef {
    unit: usize,
    offset: usize,
}

/// An entry that describes a type, or a member of one.
#[derive(Clone, Debug)]
pub struct Entry {
    pub tag: DwTag,
    pub name: Option<String>,
    /// `DW_AT_type`.
    pub type_: Option<EntryRef>,
    /// `DW_AT_data_member_location`, bytes.
    pub location: Option<u64>,
    /// `DW_AT_byte_size`.
    pub size: Option<u64>,
    /// `DW_AT_discr`: the member that holds an enum's discriminant.
    pub discr: Option<EntryRef>,
    /// `DW_AT_discr_value`.
    pub discr_value: Option<u64>,
    pub children: Vec<Entry>,
}

impl Entry {
    /// The direct children with that tag.
    pub fn children(&self, tag: DwTag) -> impl Iterator<Item = &Entry> {
        self.children.iter().filter(move |child| child.tag == tag)
    }

    /// The member with that name.
    pub fn member(&self, name: &str) -> Option<&Entry> {
        self.children(gimli::DW_TAG_member)
            .find(|member| member.name.as_deref() == Some(name))
    }
}

/// The place of a unit in `.debug_info`, and its name.
struct UnitPlace {
    offset: u64,
    size: u64,
    bases: Bases,
    name: Option<String>,
}

/// Offsets in the other sections of a package where a unit's own part starts; 0 outside of packages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    pub abbrev: u64,
    pub str_offsets: u64,
}

/// A unit that has been read.
struct Unit<'s> {
    header: UnitHeader<Slice<'s>>,
    abbreviations: Rc<Abbreviations>,
    str_offsets_base: DebugStrOffsetsBase<usize>,
}

/// The debug info of an executable.
pub struct Dwarf<'s, 'd> {
    sections: &'s Sections<'d>,
    abbrev: DebugAbbrev<Slice<'s>>,
    /// The table parsed last, and its offset: units that share a table are neighbours.
    abbreviations: RefCell<Option<(usize, Rc<Abbreviations>)>>,
    places: Vec<UnitPlace>,
    units: RefCell<HashMap<usize, Rc<Unit<'s>>>>,
}

impl<'s, 'd> Dwarf<'s, 'd> {
    /// Reads the list of units.
    ///
    /// # Errors
    /// When the list is damaged.
    pub fn new(sections: &'s Sections<'d>) -> Result<Self> {
        let mut dwarf = Dwarf::empty(sections)?;
        let total = sections.info.len();
        let mut offset = 0;
        // The shortest unit header has 11 bytes; less is padding.
        while total - offset >= 11 {
            offset += dwarf.add_unit(offset, total, Bases::default())?;
        }
        Ok(dwarf)
    }

    /// Reads these units of a package, each with its offset and its bases in other sections.
    ///
    /// # Errors
    /// When one is damaged.
    pub fn of_units(
        sections: &'s Sections<'d>,
        units: impl Iterator<Item = (u64, Bases)>,
    ) -> Result<Self> {
        let mut dwarf = Dwarf::empty(sections)?;
        let total = sections.info.len();
        for (offset, bases) in units {
            ensure!(offset < total, "a unit outside the package");
            dwarf.add_unit(offset, total, bases)?;
        }
        Ok(dwarf)
    }

    fn empty(sections: &'s Sections<'d>) -> Result<Self> {
        let abbrev = sections.abbrev.bytes(0, sections.abbrev.len())?;
        Ok(Dwarf {
            sections,
            abbrev: DebugAbbrev::new(abbrev, LittleEndian),
            abbreviations: RefCell::default(),
            places: Vec::new(),
            units: RefCell::default(),
        })
    }

    /// Adds the unit at this offset to the list, and returns its size.
    fn add_unit(&mut self, offset: u64, total: u64, bases: Bases) -> Result<u64> {
        let size = self.unit_size(offset)?;
        ensure!(
            size <= total - offset,
            "the unit at {offset:#x} is truncated"
        );
        let mut place = UnitPlace {
            offset,
            size,
            bases,
            name: None,
        };
        place.name = self.unit_name(&place).unwrap_or(None);
        self.places.push(place);
        Ok(size)
    }

    /// The ids of the split units for which an executable has skeleton units.
    pub fn split_ids(&self) -> Vec<u64> {
        let id = |place: &UnitPlace| -> Option<u64> {
            let head = self.unit_head(place).ok()?;
            let unit = self.parse_unit(&head, place.bases).ok()?;
            match unit.header.type_() {
                UnitType::Skeleton(id) => Some(id.0),
                _ => root(&unit)
                    .ok()?
                    .attr(gimli::DW_AT_GNU_dwo_id)?
                    .udata_value(),
            }
        };
        self.places.iter().filter_map(id).collect()
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Name of the unit. For Rust: the path of the crate's root, `/@/`, and the codegen unit.
    pub fn name(&self, unit: usize) -> Option<&str> {
        self.places.get(unit)?.name.as_deref()
    }

    /// Size of the unit, bytes.
    pub fn size(&self, unit: usize) -> u64 {
        self.places.get(unit).map_or(0, |place| place.size)
    }

    /// Every struct whose namespaces and name make up `path`.
    ///
    /// # Errors
    /// When the unit is damaged.
    pub fn find_struct(&self, unit: usize, path: &[&str]) -> Result<Vec<EntryRef>> {
        let data = self.unit(unit)?;
        let mut found = Vec::new();
        // Codes are numbered from 1. A unit with line tables alone has no types to search.
        let has_structs = (1..)
            .map_while(|code| data.abbreviations.get(code))
            .any(|abbrev| abbrev.tag() == gimli::DW_TAG_structure_type);
        if !has_structs {
            return Ok(found);
        }
        let mut entries = data.header.entries_raw(&data.abbreviations, None)?;
        // How many leading names of `path` match the namespaces around the current entry.
        let mut matched = 0;
        while !entries.is_empty() {
            let depth = entries.next_depth();
            let offset = entries.next_offset().0;
            let Some(abbrev) = entries.read_abbreviation()? else {
                continue;
            };
            // The unit's root has depth 0, so entry `path[0]` has depth 1.
            let Some(level) = usize::try_from(depth - 1).ok() else {
                entries.skip_attributes(abbrev.attributes())?;
                continue;
            };
            matched = matched.min(level);
            let wanted = match path.len().checked_sub(level + 1) {
                Some(0) => gimli::DW_TAG_structure_type,
                Some(_) => gimli::DW_TAG_namespace,
                None => DwTag(0),
            };
            if matched != level || abbrev.tag() != wanted {
                entries.skip_attributes(abbrev.attributes())?;
                continue;
            }
            let mut name = None;
            for spec in abbrev.attributes() {
                let attribute = entries.read_attribute(*spec)?;
                if attribute.name() == gimli::DW_AT_name {
                    name = self.string(&data, &attribute).ok();
                }
            }
            if name.as_deref() == path.get(level).copied() {
                if level + 1 == path.len() {
                    found.push(EntryRef { unit, offset });
                } else {
                    matched = level + 1;
                }
            }
        }
        Ok(found)
    }

    /// The entry with its children down to what an enum needs (part, variant, member).
    ///
    /// # Errors
    /// When the debug info is damaged there.
    pub fn entry(&self, at: EntryRef) -> Result<Entry> {
        let data = self.unit(at.unit)?;
        let mut entries = data
            .header
            .entries_raw(&data.abbreviations, Some(UnitOffset(at.offset)))?;
        let mut raw = DebuggingInformationEntry::null();
        if !entries.read_entry(&mut raw)? {
            bail!("no entry at {:#x}", at.offset);
        }
        let mut stack = vec![self.convert(&data, at.unit, &raw)?];
        let mut open = raw.has_children;
        for _ in 0..MAX_SUBTREE {
            if !open {
                break;
            }
            if entries.read_entry(&mut raw)? {
                let entry = self.convert(&data, at.unit, &raw)?;
                stack.push(entry);
                if raw.has_children {
                    continue;
                }
            }
            // A leaf or the end of a list of children: hand the top entry to its parent.
            let last = stack.pop().context("unbalanced entries")?;
            match stack.last_mut() {
                Some(parent) => parent.children.push(last),
                None => return Ok(last),
            }
            open = !(stack.is_empty());
        }
        match (open, stack.pop()) {
            (false, Some(entry)) => Ok(entry),
            _ => bail!("the entry at {:#x} does not end", at.offset),
        }
    }

    fn convert(
        &self,
        unit: &Unit<'s>,
        index: usize,
        raw: &DebuggingInformationEntry<Slice<'s>>,
    ) -> Result<Entry> {
        let number = |name| raw.attr(name).and_then(Attribute::udata_value);
        let reference = |name| {
            raw.attr_value(name)
                .and_then(|value| self.resolve(index, value))
        };
        Ok(Entry {
            tag: raw.tag,
            name: raw
                .attr(gimli::DW_AT_name)
                .map(|attribute| self.string(unit, attribute))
                .transpose()?,
            type_: reference(gimli::DW_AT_type),
            location: number(gimli::DW_AT_data_member_location),
            size: number(gimli::DW_AT_byte_size),
            discr: reference(gimli::DW_AT_discr),
            discr_value: number(gimli::DW_AT_discr_value),
            children: Vec::new(),
        })
    }

    /// A reference within a unit, or across units as link-time optimisation makes them.
    fn resolve(&self, unit: usize, value: AttributeValue<Slice<'s>>) -> Option<EntryRef> {
        match value {
            AttributeValue::UnitRef(offset) => Some(EntryRef {
                unit,
                offset: offset.0,
            }),
            AttributeValue::DebugInfoRef(offset) => {
                let offset = u64::try_from(offset.0).ok()?;
                let unit = self
                    .places
                    .partition_point(|place| place.offset <= offset)
                    .checked_sub(1)?;
                let place = self.places.get(unit)?;
                let offset = usize::try_from(offset - place.offset).ok()?;
                Some(EntryRef { unit, offset })
            }
            _ => None,
        }
    }

    fn unit(&self, index: usize) -> Result<Rc<Unit<'s>>> {
        if let Some(unit) = self.units.borrow().get(&index) {
            return Ok(unit.clone());
        }
        let place = self.places.get(index).context("no such unit")?;
        let bytes = self.sections.info.bytes(place.offset, place.size)?;
        let unit = Rc::new(self.parse_unit(bytes, place.bases)?);
        self.units.borrow_mut().insert(index, unit.clone());
        Ok(unit)
    }

    fn parse_unit<'b>(&self, bytes: &'b [u8], bases: Bases) -> Result<Unit<'b>> {
        let header = DebugInfo::new(bytes, LittleEndian)
            .units()
            .next()?
            .context("an empty unit")?;
        let offset = usize::try_from(bases.abbrev)?
            .checked_add(header.debug_abbrev_offset().0)
            .context("abbreviations out of range")?;
        let known = match &*self.abbreviations.borrow() {
            Some((at, table)) if *at == offset => Some(table.clone()),
            _ => None,
        };
        let abbreviations = match known {
            Some(table) => table,
            None => {
                let table = Rc::new(self.abbrev.abbreviations(DebugAbbrevOffset(offset))?);
                *self.abbreviations.borrow_mut() = Some((offset, table.clone()));
                table
            }
        };
        let mut unit = Unit {
            header,
            abbreviations,
            str_offsets_base: DebugStrOffsetsBase(usize::try_from(bases.str_offsets)?),
        };
        if unit.header.version() >= 5
            && let Some(AttributeValue::DebugStrOffsetsBase(base)) =
                root(&unit)?.attr_value(gimli::DW_AT_str_offsets_base)
        {
            unit.str_offsets_base = base;
        }
        Ok(unit)
    }

    /// Size of the unit at `offset`, its length field included.
    fn unit_size(&self, offset: u64) -> Result<u64> {
        let info = &self.sections.info;
        let short = le(info.bytes(offset, 4)?);
        let size = match short {
            0xffff_ffff => le(info.bytes(offset + 4, 8)?).checked_add(12),
            _ => short.checked_add(4),
        };
        size.filter(|size| *size >= 11)
            .with_context(|| format!("the unit at {offset:#x} has an invalid length"))
    }

    /// The name in the unit's root entry, read without the rest of the unit.
    fn unit_name(&self, place: &UnitPlace) -> Result<Option<String>> {
        let head = self.unit_head(place)?;
        let unit = self.parse_unit(&head, place.bases)?;
        let root = root(&unit)?;
        root.attr(gimli::DW_AT_name)
            .map(|attribute| self.string(&unit, attribute))
            .transpose()
    }

    /// A copy of the unit's header and of the root entry's attributes that parses as a unit.
    fn unit_head(&self, place: &UnitPlace) -> Result<Vec<u8>> {
        let size = place.size.min(HEAD);
        let mut head = self.sections.info.bytes(place.offset, size)?.to_owned();
        // The length field must be that of the truncated copy, or it does not parse.
        let length = head.len();
        if head.starts_with(&[0xff; 4]) {
            let field = head.get_mut(4..12).context("a short unit")?;
            field.copy_from_slice(&(length as u64 - 12).to_le_bytes());
        } else {
            let field = head.get_mut(..4).context("a short unit")?;
            field.copy_from_slice(&(length as u32 - 4).to_le_bytes());
        }
        Ok(head)
    }

    fn string(&self, unit: &Unit<'_>, attribute: &Attribute<Slice<'_>>) -> Result<String> {
        let at = |section: &'s Option<Section<'d>>, offset: usize| {
            section
                .as_ref()
                .context("a string in a section that is missing")?
                .string(offset as u64)
        };
        let bytes = match attribute.value() {
            AttributeValue::String(string) => string.slice(),
            AttributeValue::DebugStrRef(offset) => at(&self.sections.str, offset.0)?,
            AttributeValue::DebugLineStrRef(offset) => at(&self.sections.line_str, offset.0)?,
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let size = u64::from(unit.header.format().word_size());
                let entry = (index.0 as u64)
                    .checked_mul(size)
                    .and_then(|skip| skip.checked_add(unit.str_offsets_base.0 as u64))
                    .context("a string index out of range")?;
                let offsets = self.sections.str_offsets.as_ref();
                let offset = le(offsets.context("no string offsets")?.bytes(entry, size)?);
                at(&self.sections.str, usize::try_from(offset)?)?
            }
            _ => bail!("a name that is not a string"),
        };
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// The unit's root entry.
fn root<'s>(unit: &Unit<'s>) -> Result<DebuggingInformationEntry<Slice<'s>>> {
    let mut entries = unit.header.entries_raw(&unit.abbreviations, None)?;
    let mut root = DebuggingInformationEntry::null();
    entries.read_entry(&mut root)?;
    Ok(root)
}

/// A little-endian number of up to 8 bytes.
fn le(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}
