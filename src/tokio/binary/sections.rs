//! The sections with debug info, of an executable, a debug file or a package.

use anyhow::Result;

use super::elf::{Elf, Section};

/// The sections of an executable's debug info.
pub struct Sections<'d> {
    pub info: Section<'d>,
    pub abbrev: Section<'d>,
    pub str: Option<Section<'d>>,
    pub line_str: Option<Section<'d>>,
    pub str_offsets: Option<Section<'d>>,
}

impl<'d> Sections<'d> {
    /// Sections made by a test.
    #[cfg(test)]
    pub fn of(info: Vec<u8>, abbrev: Vec<u8>) -> Self {
        Sections {
            info: Section::Memory(info.into()),
            abbrev: Section::Memory(abbrev.into()),
            str: None,
            line_str: None,
            str_offsets: None,
        }
    }

    /// The sections of an executable or debug file; None where it has no debug info.
    ///
    /// # Errors
    /// When a section is damaged.
    pub fn load(elf: &Elf<'d>) -> Result<Option<Self>> {
        Sections::named(elf, "")
    }

    /// The sections of a package of split debug info; None where the file is not one.
    ///
    /// # Errors
    /// When a section is damaged.
    pub fn of_package(elf: &Elf<'d>) -> Result<Option<Self>> {
        Sections::named(elf, ".dwo")
    }

    fn named(elf: &Elf<'d>, suffix: &str) -> Result<Option<Self>> {
        let section = |name: &str| elf.section(&format!("{name}{suffix}"));
        let (Some(info), Some(abbrev)) = (section(".debug_info")?, section(".debug_abbrev")?)
        else {
            return Ok(None);
        };
        Ok(Some(Sections {
            info,
            abbrev,
            str: section(".debug_str")?,
            line_str: section(".debug_line_str")?,
            str_offsets: section(".debug_str_offsets")?,
        }))
    }
}
