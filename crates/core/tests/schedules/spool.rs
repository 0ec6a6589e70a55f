//! The spool's directory and accounts.

#[path = "../../src/spool/file.rs"]
pub mod file;
#[path = "../../src/spool/fs.rs"]
pub mod fs;
#[expect(dead_code, reason = "what a status shows is not asked here")]
#[path = "../../src/spool/scratch.rs"]
pub mod scratch;
