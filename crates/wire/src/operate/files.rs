use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The header of an answer with bytes of a file: by this the same file is read on, also when another
/// one has got its name.
pub const FILE_HEADER: &str = "anabranch-file";

/// The header of an answer with bytes of a file: how long that is now.
pub const FILE_BYTES_HEADER: &str = "anabranch-file-bytes";

/// The files of a log, for whoever checks or copies it from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogFiles {
    /// Their names.
    pub files: Vec<String>,
    /// Whether a process writes to the log.
    pub written: bool,
}
