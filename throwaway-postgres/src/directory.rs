//! A directory nobody else can look into, and names nobody else has.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process;

use crate::Error;
use crate::account::Account;

/// A fresh directory with mode 0700, removed with all it holds when dropped.
#[derive(Debug)]
pub(crate) struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// A path under the directory for temporary files which nobody else will think of.
    pub(crate) fn unused_path() -> Result<PathBuf, Error> {
        Ok(env::temp_dir().join(format!("throwaway-postgres-{}-{}", process::id(), random_hex::<8>()?)))
    }

    /// A directory which was there before is an error: it is somebody else's.
    pub(crate) fn create(path: PathBuf) -> Result<PrivateDirectory, Error> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(PrivateDirectory { path }),
            Err(error) => Err(Error::io(format_args!("create the directory {}", path.display()), &error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the other user's. What is in it stays as it is.
    pub(crate) fn give_to(&self, account: &Account) -> Result<(), Error> {
        chown(&self.path, Some(account.user), Some(account.group)).map_err(|error| {
            Error::io(format_args!("give {} to the user `{}`", self.path.display(), account.name), &error)
        })
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and a directory that is gone already is what we want.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// `BYTES` random bytes in hexadecimal, good enough for a password.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, Error> {
    let mut bytes = [0_u8; BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Error::io("read random bytes from /dev/urandom", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
