//! Kernel releases.

use core::{fmt, str::FromStr};

/// A release of Linux, ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
    /// The third number; zero where none is given.
    pub patch: u16,
}

impl Release {
    /// The first release of a series.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor, patch: 0 }
    }
}

/// The text is not a kernel release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRelease;

impl fmt::Display for BadRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a kernel release (such as 6.12 or 5.10.234)")
    }
}

impl std::error::Error for BadRelease {}

impl FromStr for Release {
    type Err = BadRelease;

    /// Reads `major.minor[.patch]`, and passes over what follows from the first `-`, `+` or other such mark on.
    fn from_str(text: &str) -> Result<Self, BadRelease> {
        let text = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default();
        let mut numbers = text.split('.').map(|number| number.parse().map_err(|_| BadRelease));
        let (major, minor) = (numbers.next().ok_or(BadRelease)??, numbers.next().ok_or(BadRelease)??);
        let patch = numbers.next().unwrap_or(Ok(0))?;
        // Releases before 3.0 had a fourth number, which orders nothing here.
        numbers.try_for_each(|number| number.map(|_: u16| ()))?;
        Ok(Self { major, minor, patch })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_and_ordered() {
        let release = |text: &str| text.parse::<Release>();
        assert_eq!(release("6.12.57-foo"), Ok(Release { major: 6, minor: 12, patch: 57 }));
        assert_eq!(release("5.10"), Ok(Release::new(5, 10)));
        assert_eq!(release("2.6.32.1+").map(|r| r.patch), Ok(32));
        assert!(
            release("5.9").unwrap() < Release::new(5, 10) && release("6.1.9").unwrap() < release("6.1.10").unwrap()
        );
        for bad in ["", "6", "6.", "six", "6.x", "99999.1", "6.1.-x"] {
            assert_eq!(release(bad), Err(BadRelease), "{bad}");
        }
    }
}
