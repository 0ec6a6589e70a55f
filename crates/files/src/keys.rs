//! Names of objects.
//!
//! ```text
//! {prefix}/{topic}/{route}/{topic}+{partition}+{first offset, zero-padded to 10}{extension}
//! ```
//!
//! The first offset is the object's own, not its segment's. Segments tile the offset axis and an object's first row
//! is decided by the rows alone, so the same records have the same key whoever writes them again. A template may name the
//! object's last offset too; see [`KeyTemplate::with_file_name`] for what that costs.

use aqueduct_core::{Fingerprint, Offset, OffsetRange, TopicPartition};

/// The layout of keys. The default is the one Kafka Connect's users know.
///
/// ```
/// use aqueduct_core::{Offset, OffsetRange, TopicPartition};
/// use aqueduct_files::KeyTemplate;
///
/// let keys = KeyTemplate::new("topics");
/// let lane = TopicPartition::new("orders", 3);
/// let range = OffsetRange::new(Offset::new(4711), Offset::new(5000)).unwrap();
/// let key = keys.render(&lane, "year=2026/month=11", range, ".json.gz");
/// assert_eq!(key, "topics/orders/year=2026/month=11/orders+3+0000004711.json.gz");
/// let keys = keys.with_file_name("{topic}+{partition}+{start}-{end}");
/// let key = keys.render(&lane, "", range, ".json.gz");
/// assert_eq!(key, "topics/orders/orders+3+0000004711-0000004999.json.gz");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    prefix: String,
    file: String,
    pad_width: usize,
}

/// Why a [`KeyTemplate`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The prefix would not stay what it is in a key.
    #[error("key prefix {prefix:?} {problem}; write levels joined by single slashes, like topics/raw")]
    Prefix {
        /// The prefix.
        prefix: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file name does not name an object, or two objects alike.
    #[error("file name template {template:?} {problem}; the default is {default:?}", default = KeyTemplate::DEFAULT_FILE)]
    File {
        /// The template.
        template: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More digits than an offset can have.
    #[error("offset width {width} is more than the {max} digits an offset can have", max = KeyTemplate::PAD_MAX)]
    PadWidth {
        /// The width asked for.
        width: usize,
    },
    /// The format's extension would not end a key.
    #[error("extension {extension:?} cannot end a key; write it like .json")]
    Extension {
        /// The extension.
        extension: String,
    },
    /// The topic's name would not stay one level.
    #[error(
        "topic name {topic:?} cannot be a level of a key; Kafka's own names hold letters, digits, '.', '_' and '-'"
    )]
    Topic {
        /// The topic.
        topic: String,
    },
    /// The key is longer than stores take.
    #[error("the key would be {length} bytes long, {max} is the most; shorten the prefix or the route", max = KeyTemplate::KEY_MAX)]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl KeyTemplate {
    /// The longest key, in bytes.
    pub const KEY_MAX: usize = 1024;
    /// The most digits an offset has.
    pub const PAD_MAX: usize = 19;
    /// The default last part of a key, before the extension.
    pub const DEFAULT_FILE: &str = "{topic}+{partition}+{start}";

    /// Keys below `prefix`, which may be empty and may hold slashes.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), file: Self::DEFAULT_FILE.to_owned(), pad_width: 10 }
    }

    /// Another last part: text with `{topic}`, `{partition}`, `{start}` and `{end}`, of which `{partition}` and `{start}` must
    /// be there: without them two objects could have one name.
    ///
    /// `{end}` is the offset of the object's last record, inclusive. It weakens the guarantee to at least once. A process that
    /// takes over makes the same names, as it cuts where the intent says. But the second net, the claim of a name, only holds
    /// where the same records have the same name: a mark that an operator sets back is read again with other cuts, and with
    /// `{end}` the same records are then stored beside the old objects instead of meeting them. What an object holds is in
    /// its [metadata](crate::IDENTITY) in any case.
    #[must_use]
    pub fn with_file_name(mut self, template: impl Into<String>) -> Self {
        self.file = template.into();
        self
    }

    /// The digits the first offset is padded to with zeros; 10 by default.
    #[must_use]
    pub fn with_pad_width(mut self, digits: usize) -> Self {
        self.pad_width = digits;
        self
    }

    /// Whether names depend on where objects end.
    pub(crate) fn names_the_end(&self) -> bool {
        self.pieces().any(|piece| piece == Piece::End)
    }

    /// What all objects of the route have in front, with a slash at the end. `route` is escaped already.
    pub(crate) fn folder(&self, topic: &str, route: &str) -> String {
        let mut folder = String::with_capacity(128);
        for level in [&self.prefix, topic, route] {
            if !level.is_empty() {
                folder.push_str(level);
                folder.push('/');
            }
        }
        folder
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Everything that is wrong with the template; empty if nothing is.
    pub fn problems(&self) -> Vec<KeyError> {
        let mut problems = Vec::new();
        let prefix = |problem| KeyError::Prefix { prefix: self.prefix.clone(), problem };
        if !self.prefix.is_empty() {
            if self.prefix.split('/').any(str::is_empty) {
                problems.push(prefix("has an empty level"));
            }
            if self.prefix.split('/').any(|level| level == "." || level == "..") {
                problems.push(prefix("has a level of dots"));
            }
            if self.prefix.chars().any(char::is_control) {
                problems.push(prefix("has a control character"));
            }
            if self.prefix.len() > Self::KEY_MAX / 2 {
                problems.push(prefix("is longer than 512 bytes"));
            }
        }
        let file = |problem| KeyError::File { template: self.file.clone(), problem };
        let has = |wanted| self.pieces().any(|piece| piece == wanted);
        if !has(Piece::Partition) || !has(Piece::Start) {
            problems
                .push(file("lacks {partition} or {start}, without which two objects could have one name"));
        }
        let says = |wanted: fn(char) -> bool| {
            self.pieces().any(|piece| matches!(piece, Piece::Text(text) if text.contains(wanted)))
        };
        if says(|character| matches!(character, '{' | '}')) {
            problems.push(file("has a placeholder other than {topic}, {partition}, {start} and {end}"));
        }
        if says(|character| character == '/' || character.is_control()) {
            problems.push(file("has a slash or a control character"));
        }
        if self.joins_numbers() {
            problems.push(file(
                "joins two of {partition}, {start} and {end} with nothing but digits or the topic between them",
            ));
        }
        if self.pad_width > Self::PAD_MAX {
            problems.push(KeyError::PadWidth { width: self.pad_width });
        }
        problems
    }

    /// Whether a number is followed by another that nothing tells from it: partition 1 and offset 13 would be partition 11 and
    /// offset 3. A digit between them does not help, nor does the topic, whose name may be one.
    fn joins_numbers(&self) -> bool {
        let mut after_number = false;
        for piece in self.pieces() {
            match piece {
                Piece::Partition | Piece::Start | Piece::End if after_number => return true,
                Piece::Partition | Piece::Start | Piece::End => after_number = true,
                Piece::Text(text) => after_number &= text.bytes().all(|byte| byte.is_ascii_digit()),
                Piece::Topic => {}
            }
        }
        false
    }

    fn pieces(&self) -> Pieces<'_> {
        Pieces(&self.file)
    }

    /// Whether objects of `lane` with this extension can have names at all.
    ///
    /// # Errors
    /// [`KeyError::Topic`] and [`KeyError::Extension`].
    pub fn check_lane(&self, lane: &TopicPartition, extension: &str) -> Result<(), KeyError> {
        if extension.contains(|character: char| character == '/' || character.is_control()) {
            return Err(KeyError::Extension { extension: extension.to_owned() });
        }
        let topic = lane.topic();
        let safe =
            topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if safe && !topic.is_empty() && topic.len() <= 249 && topic != "." && topic != ".." {
            return Ok(());
        }
        Err(KeyError::Topic { topic: topic.to_owned() })
    }

    /// Whether every object of the route can have a key, whatever its first offset.
    ///
    /// # Errors
    /// [`KeyError::TooLong`].
    pub fn check_route(&self, lane: &TopicPartition, route: &str, extension: &str) -> Result<(), KeyError> {
        let last = Offset::new(i64::MAX);
        // Both ends have as many digits as they can have; that no object can be there does not matter.
        let length = self.named(lane, route, (last, last), extension).len();
        if length <= Self::KEY_MAX { Ok(()) } else { Err(KeyError::TooLong { length }) }
    }

    /// The key of the object of `lane` and `route` with rows from the first to before the last offset of `range`. `route` is
    /// escaped already.
    pub fn render(&self, lane: &TopicPartition, route: &str, range: OffsetRange, extension: &str) -> String {
        let last = Offset::new(range.end().get() - 1);
        self.named(lane, route, (range.start(), last), extension)
    }

    fn named(
        &self,
        lane: &TopicPartition,
        route: &str,
        (first, last): (Offset, Offset),
        extension: &str,
    ) -> String {
        let mut key = self.folder(lane.topic(), route);
        let [start, end] =
            [first, last].map(|offset| format!("{:0width$}", offset.get(), width = self.pad_width));
        let partition = lane.partition().to_string();
        // Not `replace` one after the other: a topic's name could hold text that looks like the next placeholder.
        for piece in self.pieces() {
            key.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Topic => lane.topic(),
                Piece::Partition => &partition,
                Piece::Start => &start,
                Piece::End => &end,
            });
        }
        key.push_str(extension);
        key
    }

    /// Adds the template to the layout's identity.
    pub fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("prefix", &self.prefix);
        parts.put("key", &self.file);
        parts.put("key", self.pad_width);
    }
}

/// A piece of a file name's template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// Stands for itself. Holds no placeholder; braces in it are a mistake.
    Text(&'a str),
    Topic,
    Partition,
    Start,
    End,
}

/// The pieces of a template, from the left. The one reading of it: what is checked is what is rendered.
struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let known = [
            ("{topic}", Piece::Topic),
            ("{partition}", Piece::Partition),
            ("{start}", Piece::Start),
            ("{end}", Piece::End),
        ];
        for (name, piece) in known {
            if let Some(rest) = self.0.strip_prefix(name) {
                self.0 = rest;
                return Some(piece);
            }
        }
        let first = self.0.chars().next()?.len_utf8();
        let end = self.0.get(first..)?.find('{').map_or(self.0.len(), |next| first + next);
        let (text, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(Piece::Text(text))
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_core::RoutePath;
    use proptest::prelude::*;

    use super::*;

    /// Ten offsets, or what there is.
    fn range(start: i64) -> OffsetRange {
        OffsetRange::new(Offset::new(start), Offset::new(start.saturating_add(10))).unwrap()
    }

    #[test]
    fn golden_keys() {
        let lane = TopicPartition::new("my.topic", 12);
        let render = |keys: &KeyTemplate, route, start| keys.render(&lane, route, range(start), ".json");
        let default = KeyTemplate::new("topics");
        assert_eq!(
            render(&default, "partition=12", 0),
            "topics/my.topic/partition=12/my.topic+12+0000000000.json"
        );
        assert_eq!(render(&default, "", 7), "topics/my.topic/my.topic+12+0000000007.json");
        assert_eq!(
            render(&default, "service=a%2Fb/hour=03", 12_345_678_901),
            "topics/my.topic/service=a%2Fb/hour=03/my.topic+12+12345678901.json",
            "an offset wider than the padding is written whole"
        );
        let own = KeyTemplate::new("").with_file_name("p{partition}-{start}").with_pad_width(4);
        assert_eq!(render(&own, "x", 7), "my.topic/x/p12-0007.json");
        let both = KeyTemplate::new("").with_file_name("{partition}-{start}-{end}").with_pad_width(3);
        assert_eq!(
            render(&both, "x", 7),
            "my.topic/x/12-007-016.json",
            "the end is the last row's own offset"
        );
        assert!(both.problems().is_empty());
        for joined in ["{partition}-{start}{end}", "{start}-{end}{partition}", "{partition}-{end}"] {
            assert_eq!(KeyTemplate::new("").with_file_name(joined).problems().len(), 1, "{joined}");
        }
        assert!(default.problems().is_empty() && own.problems().is_empty());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let keys = KeyTemplate::new("/a/../b\n").with_file_name("{topic}/{offset}").with_pad_width(20);
        let problems = keys.problems();
        assert_eq!(problems.len(), 7, "{problems:?}");
        for joined in [
            "{start}{partition}",
            "{partition}0{start}",
            "{start}{topic}{partition}",
            "a{partition}7{topic}{start}",
        ] {
            assert_eq!(KeyTemplate::new("a").with_file_name(joined).problems().len(), 1, "{joined}");
        }
    }

    #[test]
    fn hostile_topics_are_refused() {
        let keys = KeyTemplate::new("topics");
        for topic in ["", ".", "..", "a/b", "a b", "ü", "{start}", &"x".repeat(250)] {
            assert!(keys.check_lane(&TopicPartition::new(topic, 0), ".json").is_err(), "{topic}");
        }
        let longest = TopicPartition::new("x".repeat(249), 0);
        assert!(keys.check_lane(&longest, ".json").is_ok());
        assert!(keys.check_lane(&longest, "/../x").is_err());
    }

    #[test]
    fn a_key_at_the_limit_passes_and_one_past_it_does_not() {
        let keys = KeyTemplate::new("t");
        let lane = TopicPartition::new("x", 1);
        let rest = keys.render(&lane, "r", range(i64::MAX - 1), ".json").len() - 1;
        assert!(keys.check_route(&lane, &"r".repeat(KeyTemplate::KEY_MAX - rest), ".json").is_ok());
        let error = keys.check_route(&lane, &"r".repeat(KeyTemplate::KEY_MAX - rest + 1), ".json");
        assert_eq!(error, Err(KeyError::TooLong { length: KeyTemplate::KEY_MAX + 1 }));
    }

    fn template() -> impl Strategy<Value = KeyTemplate> {
        let piece = proptest::sample::select(vec![
            "{topic}",
            "{partition}",
            "{start}",
            "{partition}",
            "{start}",
            "{end}",
            "0",
            "1",
            "7",
            "-",
            "+",
            "a",
            ".",
            "é",
            "{",
            "}",
            "/",
        ]);
        let file = prop_oneof![
            4 => proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()),
            1 => any::<String>(),
        ];
        let prefix = prop_oneof![Just("data/raw".to_owned()), "[a./]{0,6}", any::<String>()];
        (prefix, file, 0..30_usize).prop_map(|(prefix, file, digits)| {
            KeyTemplate::new(prefix).with_file_name(file).with_pad_width(digits)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn a_template_that_is_accepted_gives_every_object_a_name_of_its_own(
            keys in template(), topic in "[0-9]{1,3}|[a-z.]{1,4}", one in (0..300_i32, 0..300_i64, 1..300_i64),
            other in (0..300_i32, 0..300_i64, 1..300_i64),
            route in "([a-z=0-9]{1,3}(/[a-z]{1,3})?)?",
        ) {
            let render = |(partition, start, length): (i32, i64, i64)| {
                let range = OffsetRange::new(Offset::new(start), Offset::new(start + length)).unwrap();
                keys.render(&TopicPartition::new(topic.clone(), partition), &route, range, ".json")
            };
            if keys.problems().is_empty() && keys.check_lane(&TopicPartition::new(topic.clone(), 0), ".json").is_ok() {
                let (one_key, other_key) = (render(one), render(other));
                let same = (one.0, one.1) == (other.0, other.1) && (one.2 == other.2 || !keys.names_the_end());
                prop_assert_eq!(one_key == other_key, same, "{} and {}", one_key, other_key);
                let below = [keys.prefix(), &topic, &route].iter().filter(|level| !level.is_empty()).fold(
                    String::new(), |below, level| below + level + "/",
                );
                prop_assert!(one_key.strip_prefix(&below).is_some_and(|name| !name.contains('/') && name.len() > 5), "{}", one_key);
            } else {
                for problem in keys.problems() {
                    prop_assert!(!problem.to_string().contains(['\n', '\r']), "{}", problem);
                }
            }
        }

        #[test]
        fn keys_stay_below_the_prefix_and_differ(level: String, other: String, start in 0..i64::MAX) {
            let route = |level: &str| {
                let mut path = RoutePath::default();
                path.push(level).ok().map(|()| path.as_str().to_owned())
            };
            if let (Some(left), Some(right)) = (route(&level), route(&other)) {
                let keys = KeyTemplate::new("data/raw");
                let lane = TopicPartition::new("t", 0);
                let one = keys.render(&lane, &left, range(start), ".json");
                let two = keys.render(&lane, &right, range(start), ".json");
                prop_assert!(one.starts_with("data/raw/t/"));
                prop_assert_eq!(one.matches('/').count(), 4);
                prop_assert_eq!(one == two, level == other);
            }
        }
    }
}
