//! Several layouts, one below the other.

use std::sync::Arc;

use aqueduct_core::{Fingerprint, Partitioner, Poison, Record, Replay, RoutePath};

/// Puts the levels of several partitioners one below the other, in order: by service, then by hour.
///
/// Takes a tuple of one to six partitioners, or a `Vec<Arc<dyn Partitioner<T>>>` when they are known only at run time.
/// The result is a partitioner again. A record that one of them refuses has no route.
///
/// ```
/// use aqueduct_partitioners::{ByKafkaPartition, ByTime, chain};
///
/// let layout = chain((ByKafkaPartition, ByTime::hourly("Asia/Seoul")?));
/// # fn is_partitioner(_: impl aqueduct_core::Partitioner<()>) {}
/// # is_partitioner(layout);
/// # Ok::<(), aqueduct_partitioners::LayoutError>(())
/// ```
pub fn chain<P>(partitioners: P) -> Chain<P> {
    Chain(partitioners)
}

/// See [`chain`].
#[derive(Clone, Debug)]
pub struct Chain<P>(P);

impl<T: ?Sized + 'static> Partitioner<T> for Chain<Vec<Arc<dyn Partitioner<T>>>> {
    fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        self.0.iter().try_for_each(|partitioner| partitioner.route(record, value, path))
    }

    fn replay(&self) -> Replay {
        self.0.iter().fold(Replay::Deterministic, |all, partitioner| all.and(partitioner.replay()))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.0.iter().for_each(|partitioner| partitioner.fingerprint(parts));
    }
}

macro_rules! chain_of_tuple {
    ($($part:ident)+) => {
        impl<T: ?Sized, $($part: Partitioner<T>),+> Partitioner<T> for Chain<($($part,)+)> {
            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
                let ($($part,)+) = &self.0;
                $( $part.route(record, value, path)?; )+
                Ok(())
            }

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn replay(&self) -> Replay {
                let ($($part,)+) = &self.0;
                Replay::Deterministic$( .and($part.replay()) )+
            }

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn fingerprint(&self, parts: &mut Fingerprint) {
                let ($($part,)+) = &self.0;
                $( $part.fingerprint(parts); )+
            }
        }
    };
}
chain_of_tuple!(A);
chain_of_tuple!(A B);
chain_of_tuple!(A B C);
chain_of_tuple!(A B C D);
chain_of_tuple!(A B C D E);
chain_of_tuple!(A B C D E F);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Sample, fingerprint};
    use crate::{ByKafkaPartition, ByKey};

    struct Now;

    impl Partitioner<()> for Now {
        fn route(&self, _: &Record<'_>, (): &(), path: &mut RoutePath) -> Result<(), Poison> {
            path.push("now")
        }

        fn replay(&self) -> Replay {
            Replay::WallClock
        }

        fn fingerprint(&self, parts: &mut Fingerprint) {
            parts.put("partitioner", "now");
        }
    }

    #[test]
    fn levels_come_in_order() {
        let sample = Sample { key: Some(b"k".to_vec()), ..Sample::default() };
        let key = || ByKey::new().named("key");
        assert_eq!(sample.route(&chain((ByKafkaPartition, key())), &()).unwrap(), "partition=0/key=k");
        assert_eq!(sample.route(&chain((key(), ByKafkaPartition)), &()).unwrap(), "key=k/partition=0");
        let nested = chain((key(), chain((ByKey::new(), ByKey::new(), Now)), ByKafkaPartition));
        assert_eq!(sample.route(&nested, &()).unwrap(), "key=k/k/k/now/partition=0");
        let list: Vec<Arc<dyn Partitioner<()>>> =
            vec![Arc::new(key()), Arc::new(Now), Arc::new(ByKafkaPartition)];
        assert_eq!(sample.route(&chain(list), &()).unwrap(), "key=k/now/partition=0");
    }

    #[test]
    fn order_is_part_of_the_identity() {
        let one = fingerprint::<()>(&chain((ByKafkaPartition, ByKey::new())));
        let other = fingerprint::<()>(&chain((ByKey::new(), ByKafkaPartition)));
        assert_eq!(one.differing_parts(&other), ["partitioner"]);
        let list: Vec<Arc<dyn Partitioner<()>>> = vec![Arc::new(ByKafkaPartition), Arc::new(ByKey::new())];
        assert_eq!(fingerprint::<()>(&chain(list)), one, "however it was put together");
    }

    #[test]
    fn one_refusal_or_clock_is_enough() {
        assert!(Sample::default().route(&chain((ByKafkaPartition, ByKey::new())), &()).is_err());
        assert_eq!(chain((ByKafkaPartition, Now)).replay(), Replay::WallClock);
        assert_eq!(
            Partitioner::<()>::replay(&chain((ByKafkaPartition, ByKey::new()))),
            Replay::Deterministic
        );
    }
}
