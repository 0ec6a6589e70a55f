//! How a group shares partitions out.

use crate::worker::Options;

/// One of the ways librdkafka knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Classic: every change takes all partitions from everybody.
    Eager,
    /// Classic: only what moves is taken. The default.
    Cooperative,
    /// KIP-848: the broker assigns, partition by partition.
    Consumer,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Eager, Self::Cooperative, Self::Consumer];

    /// These, or in a slice the one whose turn it is by the seed.
    pub(crate) fn some(slice: bool, seed: u64) -> Vec<Self> {
        let turn = usize::try_from(seed % Self::ALL.len() as u64).unwrap_or_default();
        if slice { Self::ALL.into_iter().skip(turn).take(1).collect() } else { Self::ALL.to_vec() }
    }

    /// Makes a worker use it.
    pub(crate) fn set(self, options: &mut Options) {
        let (protocol, strategy) = match self {
            Self::Eager => ("classic", Some("range")),
            Self::Cooperative => ("classic", Some("cooperative-sticky")),
            Self::Consumer => ("consumer", None),
        };
        protocol.clone_into(&mut options.group_protocol);
        if let Some(strategy) = strategy {
            options.properties.insert("partition.assignment.strategy".to_owned(), strategy.to_owned());
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eager => "eager",
            Self::Cooperative => "cooperative",
            Self::Consumer => "KIP-848",
        }
    }

    /// Whether a change leaves members what does not move.
    pub(crate) fn retains(self) -> bool {
        self != Self::Eager
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_takes_them_in_turn() {
        let turns: Vec<_> = (0..3).flat_map(|seed| Protocol::some(true, seed)).collect();
        assert_eq!(turns, Protocol::ALL);
        assert_eq!(Protocol::some(false, 1), Protocol::ALL);
    }
}
