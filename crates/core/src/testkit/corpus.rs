//! Files that a decoder has to get right, each with what it has to say to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// The file beside the specimens that says what is expected of each.
const EXPECTED: &str = "expected.tsv";
/// How files end that say how the specimen is made.
const RECIPE: &str = "recipe";

/// What stands for a newline in a recipe's text.
const NEWLINE: char = '\u{240a}';

/// Runs every file of `directory` through `judge` and compares its verdict, one line, with the one in `expected.tsv`: a line
/// for each file, `name<TAB>verdict`. `judge` is also told the name, without what it ends with.
///
/// What would be too large to keep is a *recipe*: a file called `*.recipe` whose every line is a count, a space, and a text to
/// be repeated so many times; the lines' texts follow each other. `100000 [` is a document of 100 000 arrays, and `␊` stands for
/// a newline.
///
/// ```no_run
/// use aqueduct_core::testkit::check_corpus;
///
/// check_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/numbers"), |_name, bytes| {
///     match str::from_utf8(&bytes).map(str::parse::<u64>) {
///         Ok(Ok(number)) => format!("number {number}"),
///         _ => "refused".to_owned(),
///     }
/// });
/// ```
///
/// # Panics
/// If there is no file, a file without a line, a line without a file, or another verdict than expected: with the lines as they
/// would have to be. This is a test helper.
pub fn check_corpus(directory: impl AsRef<Path>, mut judge: impl FnMut(&str, Vec<u8>) -> String) {
    let directory = directory.as_ref();
    let expected = read_expected(directory);
    let refused = |error: io::Error| -> ! { panic!("{}: {error}", directory.display()) };
    let specimens = list(directory).unwrap_or_else(|error| refused(error));
    assert!(!specimens.is_empty(), "{} holds no specimen", directory.display());
    let mut wrong = Vec::new();
    for file in &specimens {
        let name = file.split('.').next().unwrap_or(file);
        // One at a time: a test may want to know how much memory each of them needs.
        let verdict = judge(name, read(&directory.join(file)).unwrap_or_else(|error| refused(error)));
        assert!(!verdict.contains(['\n', '\t']), "the verdict on {file} is not one cell: {verdict:?}");
        match expected.get(file) {
            Some(wanted) if *wanted == verdict => {}
            Some(wanted) => wrong.push(format!("expected: {wanted}\n{file}\t{verdict}")),
            None => wrong.push(format!("no line for it\n{file}\t{verdict}")),
        }
    }
    for file in expected.keys().filter(|file| !specimens.contains(*file)) {
        wrong.push(format!("{file} has a line and is not there"));
    }
    assert!(wrong.is_empty(), "{}:\n{}", directory.join(EXPECTED).display(), wrong.join("\n"));
}

fn read_expected(directory: &Path) -> BTreeMap<String, String> {
    let path = directory.join(EXPECTED);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut expected = BTreeMap::new();
    for line in text.lines() {
        let Some((file, verdict)) = line.split_once('\t') else {
            panic!("{}: no tab in the line {line:?}", path.display());
        };
        let before = expected.insert(file.to_owned(), verdict.to_owned());
        assert!(before.is_none(), "{}: {file} has two lines", path.display());
    }
    expected
}

fn list(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    names.remove(EXPECTED);
    Ok(names)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension().is_none_or(|extension| extension != RECIPE) {
        return Ok(bytes);
    }
    let mut made = Vec::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let step = line.split_once(' ').and_then(|(count, text)| Some((count.parse::<usize>().ok()?, text)));
        let (count, text) = step.ok_or_else(|| {
            let problem = format!("{}: a line is a count, a space and a text, not {line:?}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })?;
        made.extend_from_slice(text.replace(NEWLINE, "\n").repeat(count).as_bytes());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(files: &[(&str, &str)]) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let length = |name: &str, bytes: Vec<u8>| format!("{name} {}", bytes.len());
        let checked = std::panic::catch_unwind(|| check_corpus(directory.path(), length));
        checked.err().map(|panic| *panic.downcast::<String>().unwrap())
    }

    #[test]
    fn every_file_needs_its_line_and_every_line_its_file() {
        let right =
            [("a.txt", "xyz"), ("b.recipe", "1 ␊\n3 ab\n"), (EXPECTED, "a.txt\ta 3\nb.recipe\tb 7\n")];
        assert_eq!(complaint(&right), None);
        for (expected, part) in [
            ("a.txt\ta 3\n", "b.recipe\tb 7"),
            ("a.txt\ta 4\nb.recipe\tb 7\n", "expected: a 4\na.txt\ta 3"),
            ("a.txt\ta 3\nb.recipe\tb 7\nc\t1\n", "c has a line and is not there"),
            ("a.txt\ta 3\na.txt\ta 3\n", "two lines"),
            ("a.txt a 3\n", "no tab"),
        ] {
            let said = complaint(&[right[0], right[1], (EXPECTED, expected)]).unwrap();
            assert!(said.contains(part), "{part:?} in {said}");
        }
        assert!(complaint(&[(EXPECTED, "")]).unwrap().contains("no specimen"));
        assert!(complaint(&[("a", "")]).unwrap().contains(EXPECTED));
        assert!(complaint(&[("a.recipe", "[ 3"), (EXPECTED, "")]).unwrap().contains("a count, a space"));
    }
}
