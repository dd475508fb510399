//! Text that names something and is never blank.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Stands where a name would be blank: a thread may clear its own, and a trace may hold anything.
const NO_NAME: &str = "[no name]";

/// The name of a function or a thread. It always shows something, so no view has to check it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: AsRef<str> + Into<Arc<str>>> From<T> for Name {
    fn from(text: T) -> Self {
        let is_blank = |c: char| c.is_whitespace() || c.is_control();
        match text.as_ref().chars().all(is_blank) {
            true => Name(NO_NAME.into()),
            false => Name(text.into()),
        }
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_text_is_replaced() {
        for blank in ["", " ", "\t\u{0}\u{a0}"] {
            assert_eq!(Name::from(blank), NO_NAME);
        }
        assert_eq!(Name::from(" a"), " a");
    }
}
