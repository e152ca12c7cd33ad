//! What is executed: a resolved program, its arguments and an environment of listed variables only.
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Variables that a child gets when this process has them.
pub const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TERM", "TMPDIR"];

/// Beginnings of names that never reach a child: this program's own configuration may hold secrets.
const WITHHELD: [&str; 2] = ["CVM_", "CVMI_"];

/// A child to run: no shell, a program resolved once, a minimal environment.
#[derive(Clone, PartialEq, Eq)]
pub struct ChildCommand {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    directory: Option<PathBuf>,
}

impl fmt::Debug for ChildCommand {
    /// Shows what is run; values of the environment stay hidden.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ChildCommand")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

impl ChildCommand {
    /// Resolves the program on the PATH and takes the listed variables of this process.
    ///
    /// # Errors
    /// Fails when there is no such executable file.
    pub fn new<S: AsRef<OsStr>>(argv: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let mut argv = argv.into_iter();
        let program = argv.next().ok_or(Error::EmptyCommand)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut env = BTreeMap::new();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                env.insert(name.into(), value);
            }
        }
        env.insert("PYTHONUNBUFFERED".into(), "1".into());
        Ok(Self {
            program: resolve(program.as_ref(), &path)?,
            args: argv.map(|arg| arg.as_ref().to_owned()).collect(),
            env,
            directory: None,
        })
    }

    /// Sets a variable of the child.
    ///
    /// # Errors
    /// Refuses names that are empty or hold `=`, and values that hold a NUL.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Result<Self, Error> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let bytes = name.as_encoded_bytes();
        let bad = bytes.is_empty() || bytes.iter().any(|byte| matches!(byte, b'=' | 0));
        if bad || value.as_encoded_bytes().contains(&0) {
            return Err(Error::Environment { name: name.to_string_lossy().into_owned() });
        }
        self.env.insert(name.to_owned(), value.to_owned());
        Ok(self)
    }

    /// Passes a variable of this process on, if it is set.
    ///
    /// # Errors
    /// Refuses this program's own variables, which may hold secrets.
    pub fn inherit(self, name: &str) -> Result<Self, Error> {
        if WITHHELD.iter().any(|start| name.starts_with(start)) {
            return Err(Error::Environment { name: name.to_owned() });
        }
        match std::env::var_os(name) {
            Some(value) => self.env(name, value),
            None => Ok(self),
        }
    }

    /// Sets the directory that the child starts in.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Returns the absolute path that is executed.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns the arguments after the program.
    #[must_use]
    pub fn args(&self) -> &[OsString] {
        &self.args
    }

    pub(crate) fn to_tokio(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).env_clear().envs(&self.env);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

/// Finds the file that a name stands for; a name with a slash is a path and is not searched.
fn resolve(program: &OsStr, path: &OsStr) -> Result<PathBuf, Error> {
    let shown = || program.to_string_lossy().into_owned();
    if program.is_empty() {
        return Err(Error::EmptyCommand);
    }
    if program.as_encoded_bytes().contains(&b'/') {
        let file = std::path::absolute(program)
            .map_err(|_| Error::NoProgram { program: shown(), on_path: false })?;
        return match (file.is_file(), executable(&file)) {
            (true, true) => Ok(file),
            (true, false) => Err(Error::NotExecutable { program: shown() }),
            (false, _) => Err(Error::NoProgram { program: shown(), on_path: false }),
        };
    }
    // An empty entry of PATH means the current directory to a shell; here it means nothing.
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| executable(file))
        .ok_or_else(|| Error::NoProgram { program: shown(), on_path: true })
}

#[cfg(unix)]
fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn executable(file: &Path) -> bool {
    file.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_searched_on_the_path_and_becomes_absolute() {
        let found = resolve(OsStr::new("sh"), OsStr::new("/nowhere:/bin:/usr/bin")).unwrap();
        assert!(found.is_absolute() && found.ends_with("sh"));
    }

    #[test]
    fn relative_and_empty_entries_of_the_path_are_not_searched() {
        let error = resolve(OsStr::new("Cargo.toml"), OsStr::new(".::src")).unwrap_err();
        assert_eq!(error, Error::NoProgram { program: "Cargo.toml".into(), on_path: true });
    }

    #[test]
    fn a_path_is_taken_as_it_is_and_must_be_executable() {
        assert!(resolve(OsStr::new("/bin/sh"), OsStr::new("")).is_ok());
        let error = resolve(OsStr::new("./Cargo.toml"), OsStr::new("/bin")).unwrap_err();
        assert_eq!(error, Error::NotExecutable { program: "./Cargo.toml".into() });
    }

    #[test]
    fn an_empty_command_is_refused() {
        assert_eq!(ChildCommand::new([""; 0]).unwrap_err(), Error::EmptyCommand);
        assert_eq!(ChildCommand::new([""]).unwrap_err(), Error::EmptyCommand);
    }

    #[test]
    fn our_own_variables_are_never_passed_on() {
        let command = ChildCommand::new(["/bin/sh"]).unwrap();
        assert!(command.clone().inherit("CVM_KEY").is_err());
        assert!(command.clone().inherit("CVMI_SERVE_PRIVATE_KEY").is_err());
        assert!(command.clone().inherit("NOT_SET_ANYWHERE").is_ok());
        assert!(command.env("A=B", "c").is_err());
    }

    #[test]
    fn values_of_the_environment_are_not_shown() {
        let command =
            ChildCommand::new(["/bin/sh", "secret-argument"]).unwrap().env("TOKEN", "hunter2").unwrap();
        let shown = format!("{command:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2") && !shown.contains("secret-argument"));
    }
}
