//! A partitioner of one's own: [`by_tenant::ByTenant`].

pub mod by_tenant;
