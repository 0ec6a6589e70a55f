//! The routes of a segment by their numbers.

use std::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::RoutePath;

/// A route's number within one segment: later stages never hash strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(u32);

impl RouteId {
    /// Numbers from 0 in order of first use.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The routes of one segment, numbered in order of first use.
#[derive(Debug, Default)]
pub struct RouteTable {
    ids: HashTable<RouteId>,
    paths: Vec<Path>,
    last: usize,
    hasher: DefaultHashBuilder,
}

/// The text of a route, in one cache line if it is not long: among a thousand routes, that of the next record is seldom in a near
/// cache, and each line that is waited for costs more than hashing and comparing together.
#[derive(Debug)]
#[repr(align(64))]
struct Path {
    /// Of the whole path.
    length: u16,
    head: [u8; HEAD],
    rest: Box<[u8]>,
}

/// As much as there is room for beside the other fields.
const HEAD: usize = 64 - size_of::<u16>() - size_of::<Box<[u8]>>();

impl RouteTable {
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of a route the table knows.
    pub fn get(&mut self, path: &RoutePath) -> Option<RouteId> {
        let text = path.as_str().as_bytes();
        // Neighbouring records mostly share a route: one comparison instead of a hash.
        if self.paths.get(self.last).is_some_and(|last| last.is(text)) {
            return Some(id(self.last));
        }
        let is_it = |id: &RouteId| self.paths.get(id.index()).is_some_and(|path| path.is(text));
        let known = *self.ids.find(hash(&self.hasher, split(text)), is_it)?;
        self.last = known.index();
        Some(known)
    }

    /// The number the next new route will get.
    pub fn next_id(&self) -> RouteId {
        id(self.paths.len())
    }

    /// The number of `path`, new or known.
    pub fn intern(&mut self, path: &RoutePath) -> RouteId {
        if let Some(id) = self.get(path) {
            return id;
        }
        let id = self.next_id();
        let parts = split(path.as_str().as_bytes());
        self.paths.push(Path::new(parts));
        let Self { paths, hasher, .. } = self;
        self.ids.insert_unique(hash(hasher, parts), id, |id| {
            hash(hasher, paths.get(id.index()).map(Path::parts).unwrap_or_default())
        });
        id
    }

    /// Number of routes.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is no route yet.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

impl Path {
    fn new((start, rest): (&[u8], &[u8])) -> Self {
        let mut head = [0; HEAD];
        head.iter_mut().zip(start).for_each(|(to, from)| *to = *from);
        // `RoutePath::ROUTE_MAX` fits.
        let length = u16::try_from(start.len() + rest.len()).unwrap_or(u16::MAX);
        Self { length, head, rest: rest.into() }
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let length = HEAD.min(usize::from(self.length));
        (self.head.get(..length).unwrap_or_default(), &self.rest)
    }

    #[inline]
    fn is(&self, text: &[u8]) -> bool {
        let ((head, rest), (other_head, other_rest)) = (self.parts(), split(text));
        usize::from(self.length) == text.len()
            && head == other_head
            // Not left to the comparison, which is slow where nothing is compared: AVX-512's masked load of no byte at the address of
            // an empty box takes as long as a miss of all caches.
            && (rest.is_empty() || rest == other_rest)
    }
}

/// As a [`Path`] has it.
#[inline]
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at_checked(HEAD).unwrap_or((text, &[]))
}

#[inline]
fn hash(hasher: &DefaultHashBuilder, (head, rest): (&[u8], &[u8])) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(head);
    if !rest.is_empty() {
        hasher.write(rest);
    }
    hasher.finish()
}

fn id(index: usize) -> RouteId {
    RouteId(u32::try_from(index).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn route(level: &str) -> RoutePath {
        let mut path = RoutePath::default();
        path.push(level).unwrap();
        path
    }

    #[test]
    fn routes_are_numbered_by_first_use() {
        let mut table = RouteTable::new();
        assert_eq!((table.get(&route("a")), table.is_empty()), (None, true));
        let a = table.intern(&route("a"));
        let b = table.intern(&route("b"));
        assert_eq!((a.index(), b.index()), (0, 1));
        assert_eq!((table.intern(&route("a")), table.get(&route("b")), table.len()), (a, Some(b), 2));
        assert_eq!(table.get(&RoutePath::default()), None);
        assert_eq!(table.intern(&RoutePath::default()).index(), 2);
    }

    #[test]
    fn a_route_has_a_cache_line() {
        assert_eq!(size_of::<Path>(), 64);
    }

    proptest! {
        #[test]
        fn routes_are_those_of_a_map(levels in prop::collection::vec("[ab]{1,2}|[ab]{44,49}|a{200,255}", 0..200)) {
            let (mut table, mut map) = (RouteTable::new(), HashMap::new());
            for level in &levels {
                let path = route(level);
                let next = map.len();
                let known = map.get(level).copied();
                prop_assert_eq!(table.get(&path).map(RouteId::index), known);
                prop_assert_eq!(table.intern(&path).index(), *map.entry(level.clone()).or_insert(next));
            }
            prop_assert_eq!(table.len(), map.len());
        }
    }
}
