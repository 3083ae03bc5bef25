//! The guest programs: where they are, and what the comment at the top of each asks for.
//!
//! A program may begin with lines such as `// amber: --user 1000`; the words known are the fields of [`Guest`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One guest program in source form.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The family of calls it is about: the name of its directory.
    pub family: String,
    /// Its own name.
    pub name: String,
    /// The C source.
    pub source: PathBuf,
    /// `// link: dynamic`: linked against the C library of the machine, not statically.
    pub dynamic: bool,
    /// `// cflags: …`: further words for the compiler.
    pub cflags: Vec<String>,
    /// `// amber: …`: further flags of `amber do`.
    pub amber: Vec<String>,
    /// `// args: …`: arguments of the program, natively and in Amber.
    pub args: Vec<String>,
    /// `// status: N`: the exit code expected, as a shell reports it; 0 unless told.
    pub status: i32,
    /// `// stdout: …`: the exact line expected on standard output.
    pub stdout: Option<String>,
}

impl Guest {
    /// Reads the comment at the top of `source`.
    fn parse(family: &str, source: &Path) -> Result<Guest> {
        let text = fs::read_to_string(source)?;
        let name = source.file_stem().context("a source without a name")?.to_string_lossy().into_owned();
        let mut guest = Guest {
            family: family.to_owned(),
            name,
            source: source.to_owned(),
            dynamic: false,
            cflags: Vec::new(),
            amber: Vec::new(),
            args: Vec::new(),
            status: 0,
            stdout: None,
        };
        for line in text.lines().map_while(|line| line.strip_prefix("// ")) {
            let Some((key, value)) = line.split_once(": ") else { continue };
            let words = || value.split_whitespace().map(str::to_owned).collect();
            match key {
                "link" if value == "dynamic" => guest.dynamic = true,
                "cflags" => guest.cflags = words(),
                "amber" => guest.amber = words(),
                "args" => guest.args = words(),
                "status" => guest.status = value.parse()?,
                "stdout" => guest.stdout = Some(value.to_owned()),
                _ if !key.chars().all(|letter| letter.is_ascii_lowercase()) => {}
                _ => bail!("{}: unknown word {key:?} in the comment at its top", source.display()),
            }
        }
        Ok(guest)
    }

    /// `family::name`, as the tests are called after their mode.
    pub fn path(&self) -> String {
        format!("{}::{}", self.family, self.name)
    }
}

/// All guest programs below `root`, by family and name.
pub fn find(root: &Path) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for family in fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let family = family?;
        if !family.file_type()?.is_dir() {
            continue;
        }
        for source in fs::read_dir(family.path())? {
            let source = source?.path();
            if source.extension().is_some_and(|extension| extension == "c") {
                guests.push(Guest::parse(&family.file_name().to_string_lossy(), &source)?);
            }
        }
    }
    guests.sort_by_key(Guest::path);
    Ok(guests)
}
