//! What is measured, laid out in a directory that goes away at the end.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The programs and files to work on.
pub(crate) struct Workspace {
    directory: TempDir,
}

impl Workspace {
    /// Compiles the guest programs, grows the tree to search and writes the project to build.
    pub(crate) fn prepare() -> Result<Workspace> {
        // Not in /tmp, which some contenders cover with one of their own.
        let directory =
            TempDir::with_prefix_in("amber-bench-", "/var/tmp").context("making a directory in /var/tmp")?;
        let workspace = Workspace { directory };
        workspace.compile("micro")?;
        workspace.compile("slopes")?;
        grow_tree(&workspace.directory("tree")?).context("growing a tree")?;
        write_project(&workspace.directory("project")?).context("writing a project")?;
        Ok(workspace)
    }

    fn compile(&self, name: &str) -> Result<()> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest").join(name).with_extension("c");
        let compiler = Command::new("cc")
            .args(["-O2", "-static", "-pthread", "-o"])
            .args([&self.path(name), &source])
            .output()
            .context("cc: a C compiler is needed (Debian: apt-get install build-essential)")?;
        ensure!(compiler.status.success(), "compiling {name}.c: {}", String::from_utf8_lossy(&compiler.stderr));
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a directory to keep files in.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The guest program of small operations.
    pub(crate) fn micro(&self) -> OsString {
        self.path("micro").into()
    }

    /// The guest program that makes many of a kind.
    pub(crate) fn slopes(&self) -> OsString {
        self.path("slopes").into()
    }

    /// A command that visits every file of a big tree and looks at each.
    pub(crate) fn find(&self) -> Vec<OsString> {
        let tree = self.path("tree");
        vec!["find".into(), tree.into(), "-type".into(), "f".into(), "-size".into(), "+1k".into()]
    }

    /// A command that copies a C project to where it may write and builds it.
    pub(crate) fn build(&self) -> Vec<OsString> {
        const SCRIPT: &str =
            r#"set -e; d=$(mktemp -d /tmp/build.XXXXXX); cp "$0"/* "$d"; make -s -C "$d" -j2; rm -r "$d""#;
        vec!["sh".into(), "-c".into(), SCRIPT.into(), self.path("project").into()]
    }
}

/// 100 directories of 100 files.
fn grow_tree(root: &Path) -> Result<()> {
    for outer in 0..10 {
        for inner in 0..10 {
            let directory = root.join(format!("branch-{outer}/twig-{inner}"));
            fs::create_dir_all(&directory)?;
            for leaf in 0..100 {
                fs::write(directory.join(format!("leaf-{leaf:02}.txt")), "x")?;
            }
        }
    }
    Ok(())
}

/// A program of twelve small files.
fn write_project(root: &Path) -> Result<()> {
    const FILES: usize = 12;
    let mut main = String::from("#include <stdio.h>\n");
    let mut calls = String::new();
    for index in 0..FILES {
        let mut source = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
        for function in 0..20 {
            writeln!(
                source,
                "int part_{index}_{function}(int n) {{ int s = {function}; \
                 for (int i = 0; i < n; i++) s = s * 31 + i % ({function} + 2); return s; }}"
            )?;
        }
        fs::write(root.join(format!("part{index}.c")), source)?;
        writeln!(main, "int part_{index}_7(int n);")?;
        write!(calls, " + part_{index}_7({index})")?;
    }
    writeln!(main, "int main(void) {{ printf(\"%d\\n\", 0{calls}); return 0; }}")?;
    fs::write(root.join("main.c"), main)?;
    let objects: Vec<String> = (0..FILES).map(|index| format!("part{index}.o")).collect();
    let makefile = format!("prog: main.o {}\n\tcc -o $@ $^\n%.o: %.c\n\tcc -O1 -c -o $@ $<\n", objects.join(" "));
    fs::write(root.join("Makefile"), makefile)?;
    Ok(())
}
