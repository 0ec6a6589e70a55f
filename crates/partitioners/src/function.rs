//! A layout of the user's own.

use std::fmt;

use aqueduct_core::{Fingerprint, Partitioner, Poison, Record, RoutePath};

/// A partitioner made of a function that appends levels to the path.
///
/// The function must be pure, like [`Partitioner::route`]. It has no identity that the layout's fingerprint could
/// hold, so it takes a `name` with a version: change it (`"tenant/2"`) when you change what the function does.
///
/// ```
/// use aqueduct_core::{Poison, PoisonReason, Record, RoutePath};
/// use aqueduct_partitioners::by_fn;
///
/// struct Order {
///     tenant: Option<String>,
/// }
///
/// let by_tenant = by_fn("tenant/1", |_record: &Record<'_>, order: &Order, path: &mut RoutePath| {
///     let tenant = order.tenant.as_deref();
///     let missing = || Poison::new(PoisonReason::MissingField, "the order has no tenant");
///     path.push_field("tenant", tenant.ok_or_else(missing)?)
/// });
/// # fn is_partitioner(_: impl aqueduct_core::Partitioner<Order>) {}
/// # is_partitioner(by_tenant);
/// ```
pub fn by_fn<T: ?Sized, F>(name: impl Into<String>, route: F) -> ByFn<F>
where
    F: Fn(&Record<'_>, &T, &mut RoutePath) -> Result<(), Poison> + Send + Sync + 'static,
{
    ByFn { name: name.into(), route }
}

/// See [`by_fn`].
#[derive(Clone)]
pub struct ByFn<F> {
    name: String,
    route: F,
}

impl<F> fmt::Debug for ByFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByFn").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: ?Sized, F> Partitioner<T> for ByFn<F>
where
    F: Fn(&Record<'_>, &T, &mut RoutePath) -> Result<(), Poison> + Send + Sync + 'static,
{
    fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        (self.route)(record, value, path)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", format_args!("fn:{}", self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Sample, fingerprint};

    #[test]
    fn the_function_decides_and_its_name_is_the_identity() {
        let parity = |name: &str| {
            by_fn(name, |_: &Record<'_>, value: &u64, path: &mut RoutePath| {
                path.push(if value.is_multiple_of(2) { "even" } else { "odd" })
            })
        };
        assert_eq!(Sample::default().route(&parity("parity/1"), &3).unwrap(), "odd");
        assert_ne!(fingerprint::<u64>(&parity("parity/1")), fingerprint::<u64>(&parity("parity/2")));
    }
}
