//! Finds the programs `initdb` and `postgres`.

use std::cmp::Reverse;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// The two programs that a cluster needs, from one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) directory: PathBuf,
}

impl Binaries {
    pub(crate) fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }

    /// Returns the program that copies a running cluster. `PATH` can have links to the other two programs only, so it
    /// is searched where the server itself is.
    pub(crate) fn pg_basebackup(&self) -> Result<PathBuf, Error> {
        let server = fs::canonicalize(self.postgres()).unwrap_or_else(|_| self.postgres());
        let program = server.with_file_name("pg_basebackup");
        if is_program(&program) {
            return Ok(program);
        }
        Err(Error::new(format!("could not start a standby: there is no program {}", program.display())))
    }
}

/// The locations to search, in this order. It is an argument, so that tests can set it.
#[derive(Debug)]
pub(crate) struct Places {
    /// The value of `POSTGRES_BIN`. If it is set, nothing else is searched.
    pub(crate) named: Option<OsString>,
    /// The value of `PATH`.
    pub(crate) path: Option<OsString>,
    /// Directories in which packages create one directory for each major version.
    pub(crate) families: Vec<Family>,
}

/// Directories `<parent>/<prefix><version>/bin`.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) parent: PathBuf,
    pub(crate) prefix: &'static str,
}

// `scripts/setup` searches the same locations; change them together.
const USUAL_FAMILIES: [(&str, &str); 6] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/usr/local", "pgsql"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/Applications/Postgres.app/Contents/Versions", ""),
];

impl Places {
    pub(crate) fn of_this_machine() -> Places {
        let families = USUAL_FAMILIES.map(|(parent, prefix)| Family { parent: PathBuf::from(parent), prefix });
        Places {
            named: env::var_os("POSTGRES_BIN").filter(|directory| !directory.is_empty()),
            path: env::var_os("PATH"),
            families: families.into(),
        }
    }

    pub(crate) fn find(&self) -> Result<Binaries, Error> {
        if let Some(named) = &self.named {
            return named_directory(Path::new(named));
        }
        self.on_path().or_else(|| self.newest_of_families()).ok_or_else(Error::no_server)
    }

    fn on_path(&self) -> Option<Binaries> {
        // Skip relative directories, because the server has a different current directory.
        env::split_paths(self.path.as_ref()?)
            .filter(|directory| directory.is_absolute())
            .find_map(|directory| complete(&directory))
    }

    fn newest_of_families(&self) -> Option<Binaries> {
        let mut found: Vec<(u32, Binaries)> = self.families.iter().flat_map(Family::installed).collect();
        found.sort_by_key(|(major_version, _)| Reverse(*major_version));
        found.into_iter().map(|(_, binaries)| binaries).next()
    }
}

impl Family {
    fn installed(&self) -> Vec<(u32, Binaries)> {
        let Ok(entries) = fs::read_dir(&self.parent) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name();
                let version = name.to_str()?.strip_prefix(self.prefix)?;
                Some((major_version(version), complete(&entry.path().join("bin"))?))
            })
            .collect()
    }
}

/// Returns the first number after the prefix: 17 for `17`, `@17` or `17.2`, and 0 without a version.
fn major_version(text: &str) -> u32 {
    let digits: String = text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn named_directory(directory: &Path) -> Result<Binaries, Error> {
    // The server has a different current directory, so a relative path must be resolved here.
    let directory = std::path::absolute(directory)
        .map_err(|error| Error::io(format_args!("use POSTGRES_BIN={}", directory.display()), &error))?;
    let missing: Vec<&str> =
        ["initdb", "postgres"].into_iter().filter(|program| !is_program(&directory.join(program))).collect();
    if missing.is_empty() {
        return Ok(Binaries { directory });
    }
    Err(Error::new(format!(
        "could not use POSTGRES_BIN={}: there is no program `{}`; \
         set it to the directory that contains both `initdb` and `postgres`, or unset it",
        directory.display(),
        missing.join("` and no program `"),
    )))
}

fn complete(directory: &Path) -> Option<Binaries> {
    let binaries = Binaries { directory: directory.to_owned() };
    (is_program(&binaries.initdb()) && is_program(&binaries.postgres())).then_some(binaries)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail immediately")]
mod tests {
    use super::*;
    use crate::directory::PrivateDirectory;

    fn new_directory() -> PrivateDirectory {
        PrivateDirectory::create(PrivateDirectory::unused_path(&env::temp_dir()).unwrap()).unwrap()
    }

    fn install(directory: &Path, programs: &[&str]) {
        fs::create_dir_all(directory).unwrap();
        for program in programs {
            let path = directory.join(program);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn places(root: &Path) -> Places {
        Places {
            named: None,
            path: Some(root.join("on-path").into()),
            families: vec![
                Family { parent: root.join("debian"), prefix: "" },
                Family { parent: root.join("homebrew"), prefix: "postgresql" },
            ],
        }
    }

    const BOTH: [&str; 2] = ["initdb", "postgres"];

    #[test]
    fn if_nothing_is_found_the_error_lists_three_solutions() {
        let root = new_directory();
        install(&root.path().join("debian/17/bin"), &["postgres"]);
        let error = places(root.path()).find().unwrap_err();
        assert!(error.is_no_server());
        let message = error.to_string();
        for way in ["apt-get install postgresql", "docker run", "postgres:17", "DATABASE_URL=postgres://"] {
            assert!(message.contains(way), "{way} is not in: {message}");
        }
    }

    #[test]
    fn the_newest_major_version_is_chosen_from_all_packages() {
        let root = new_directory();
        for directory in ["debian/9.6/bin", "debian/16/bin", "homebrew/postgresql@17/bin", "homebrew/postgresql/bin"] {
            install(&root.path().join(directory), &BOTH);
        }
        install(&root.path().join("homebrew/postgresql@18/bin"), &["postgres"]);
        let found = places(root.path()).find().unwrap();
        assert_eq!(found.directory, root.path().join("homebrew/postgresql@17/bin"));
    }

    #[test]
    fn path_comes_before_the_usual_directories() {
        let root = new_directory();
        install(&root.path().join("debian/17/bin"), &BOTH);
        install(&root.path().join("on-path"), &BOTH);
        assert_eq!(places(root.path()).find().unwrap().directory, root.path().join("on-path"));
    }

    #[test]
    fn a_file_that_is_not_executable_is_not_a_program() {
        let root = new_directory();
        let directory = root.path().join("on-path");
        install(&directory, &BOTH);
        fs::set_permissions(directory.join("initdb"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(places(root.path()).find().unwrap_err().is_no_server());
    }

    #[test]
    fn if_the_set_directory_is_incomplete_no_other_one_is_used() {
        let root = new_directory();
        install(&root.path().join("on-path"), &BOTH);
        let named = root.path().join("named");
        install(&named, &["initdb"]);
        let mut places = places(root.path());
        places.named = Some(named.clone().into());
        let error = places.find().unwrap_err();
        assert!(!error.is_no_server());
        let message = error.to_string();
        assert!(message.contains("POSTGRES_BIN") && message.contains(&named.display().to_string()), "{message}");
        assert!(message.contains("`postgres`"), "{message}");
    }
}
