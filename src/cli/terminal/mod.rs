//! The input and output of commands.

pub(crate) mod environment;
pub(crate) mod exit;
pub(crate) mod failure;
pub(crate) mod output;
pub(crate) mod session;
pub(crate) mod table;
pub(crate) mod times;
pub(crate) mod values;
