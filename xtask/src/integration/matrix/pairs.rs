//! Which combinations are run: all of them, or so few that every two choices meet in one of them.

use std::collections::BTreeSet;

use super::Combination;

/// Of `all`, combinations in which every pair of choices meets that meets in any of them: most faults of combinations are faults
/// of two. Greedy, and the same for the same list.
pub(super) fn covering(all: &[Combination]) -> Vec<Combination> {
    let mut open: BTreeSet<Pair> = all.iter().flat_map(pairs).collect();
    let mut chosen = Vec::new();
    while !open.is_empty() {
        let gain = |it: &Combination| pairs(it).iter().filter(|pair| open.contains(*pair)).count();
        // The last of the best: `max_by_key` takes that, and it only has to be the same each time.
        let Some(best) = all.iter().max_by_key(|it| gain(it)) else { break };
        for pair in pairs(best) {
            open.remove(&pair);
        }
        chosen.push(*best);
    }
    chosen
}

/// Two choices of different kinds.
type Pair = [(usize, &'static str); 2];

fn pairs(of: &Combination) -> Vec<Pair> {
    let choices: Vec<(usize, &'static str)> = of.choices().into_iter().enumerate().collect();
    let mut pairs = Vec::new();
    for (index, first) in choices.iter().enumerate() {
        pairs.extend(choices.iter().skip(index + 1).map(|second| [*first, *second]));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::combinations;
    use super::*;

    #[test]
    fn every_pair_meets_in_a_fraction_of_all() {
        let all = combinations();
        let chosen = covering(&all);
        let met: BTreeSet<Pair> = chosen.iter().flat_map(pairs).collect();
        assert!(all.iter().flat_map(pairs).all(|pair| met.contains(&pair)));
        assert!(chosen.len() * 2 < all.len() && chosen.len() < 150, "{} of {}", chosen.len(), all.len());
        let again = covering(&combinations());
        assert_eq!(
            again.iter().map(Combination::name).collect::<Vec<_>>(),
            chosen.iter().map(Combination::name).collect::<Vec<_>>()
        );
    }
}
