//! `completions` and `man`: documents that are generated from the commands.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use clap_complete::Shell;

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::Output;

/// A document about the program.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Document {
    /// Print shell completions
    ///
    /// For bash: source <(procrastinate completions bash). For other shells, see their manuals.
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_parser = clap::value_parser!(Shell))]
        shell: Shell,
    },
    /// Write the manual pages, one for each command
    ///
    /// Replaces pages that it has written before. Any other file of such a name is kept, and nothing is written.
    Man {
        /// The directory, which must exist
        directory: PathBuf,
    },
}

impl Document {
    /// Generates the document.
    pub(crate) fn write(self, mut program: clap::Command, output: &mut Output<'_>) -> Result<(), Failure> {
        match self {
            Self::Completions { shell } => {
                let name = program.get_name().to_owned();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut program, name, &mut script);
                output.text(String::from_utf8_lossy(&script))
            }
            Self::Man { directory } => {
                write_pages(program, &directory).map_err(|source| {
                    let message = format!("could not write the manual pages into {}: {source}", directory.display());
                    Failure::failed(
                        message,
                        "the directory must exist, be writable, and contain no other files of these names",
                    )
                })?;
                output.line(directory.display())
            }
        }
    }
}

/// The first line of each manual page, a comment. Only files that begin with it are replaced.
const MARK: &[u8] = b".\\\" Written by the command man of procrastinate.\n";

/// Writes all pages, or none if another file is in the way.
fn write_pages(program: clap::Command, directory: &Path) -> io::Result<()> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    render(&program, &mut pages)?;
    for (name, _) in &pages {
        match fs::read(directory.join(name)) {
            Ok(other) if !other.starts_with(MARK) => {
                return Err(io::Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the file {name} is not one of these pages"),
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    pages.iter().try_for_each(|(name, page)| fs::write(directory.join(name), page))
}

/// Renders the page of a command and those of its subcommands.
fn render(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        render(subcommand, pages)?;
    }
    let page = clap_mangen::Man::new(command.clone());
    let mut text = MARK.to_vec();
    page.render(&mut text)?;
    pages.push((page.get_filename(), text));
    Ok(())
}
