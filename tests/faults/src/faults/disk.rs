//! A full disk of the server: a small file system in memory, filled up for a while.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use throwaway_postgres::Restart;
use tokio::time::{sleep, timeout};

use super::Rig;
use crate::Failure;
use crate::schedule::Fault;

const SIZE: &str = "size=600m,mode=755";

/// A file system of its own for the server. It is unmounted with this value.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
}

impl Disk {
    /// Mounts it, or says why that is not possible.
    pub(crate) fn mount(directory: &Path) -> Result<Self, String> {
        if !nix::unistd::Uid::effective().is_root() {
            return Err("only root can mount a small disk".to_owned());
        }
        let path = directory.join("disk");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self { path }),
            Ok(output) => {
                Err(format!("a small disk was not mounted: {}", String::from_utf8_lossy(&output.stderr).trim()))
            }
            Err(error) => Err(format!("`mount` could not be run: {error}")),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Fills the disk up for a while.
pub(super) async fn fill(rig: &Rig, fault: &Fault) -> Result<(), Failure> {
    let Some(disk) = &rig.disk else { return Ok(()) };
    let path = disk.path.join("filler");
    let filler = path.clone();
    let write = move || {
        let mut file = File::create(&filler)?;
        let piece = vec![0; 1 << 20];
        while file.write_all(&piece).is_ok() {}
        // The rest, in small pieces.
        while file.write_all(&piece[..4096]).is_ok() {}
        Ok::<_, std::io::Error>(())
    };
    tokio::task::spawn_blocking(write).await??;
    sleep(fault.duration).await;
    fs::remove_file(&path)?;
    // A server that cannot write its log of changes ends, and may not be able to start again by itself.
    let answers = async {
        while rig.server.connect().await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    if timeout(Duration::from_secs(5), answers).await.is_err() {
        rig.server.restart(Restart::Fast).await?;
    }
    Ok(())
}
