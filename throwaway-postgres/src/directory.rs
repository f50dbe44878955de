//! Private directories and unique names.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process;

use crate::Error;
use crate::account::Account;

/// A new directory with mode 0700. Dropping it removes it with its contents.
#[derive(Debug)]
pub(crate) struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// Returns a unique path in this directory.
    pub(crate) fn unused_path(parent: &Path) -> Result<PathBuf, Error> {
        Ok(parent.join(format!("throwaway-postgres-{}-{}", process::id(), random_hex::<8>()?)))
    }

    /// Creates the directory. It is an error if the directory exists, because it may belong to another program.
    pub(crate) fn create(path: PathBuf) -> Result<PrivateDirectory, Error> {
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(PrivateDirectory { path }),
            Err(error) => Err(Error::io(format_args!("create the directory {}", path.display()), &error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a file that only its owner can read.
    pub(crate) fn write(&self, name: &str, contents: &str, owner: Option<&Account>) -> Result<(), Error> {
        let path = self.path.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(contents.as_bytes()))
            .map_err(|error| Error::io(format_args!("create the file {}", path.display()), &error))?;
        owner.map_or(Ok(()), |account| give(&path, account))
    }

    /// Changes the owner of the directory, but not of its contents.
    pub(crate) fn give_to(&self, account: &Account) -> Result<(), Error> {
        give(&self.path, account)
    }
}

fn give(path: &Path, account: &Account) -> Result<(), Error> {
    chown(path, Some(account.user), Some(account.group))
        .map_err(|error| Error::io(format_args!("give {} to the user `{}`", path.display(), account.name), &error))
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // A failure here cannot be handled, and the directory may already be gone.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Returns `BYTES` random bytes in hexadecimal, good enough for a password.
pub(crate) fn random_hex<const BYTES: usize>() -> Result<String, Error> {
    let mut bytes = [0_u8; BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| Error::io("read random bytes from /dev/urandom", &error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
