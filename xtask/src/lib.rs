//! Services, loads and audits for the integration runs and benchmarks of the workspace: real servers, no containers, and
//! nothing of Aqueduct itself in what judges it.

pub mod load;
pub mod process;
pub mod readers;
pub mod services;
pub mod tables;
