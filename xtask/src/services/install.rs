//! The servers' programs: where they are kept, and how they get there on a fresh machine.
//!
//! Apache Kafka's jars come from Maven Central through `services/kafka/pom.xml`, and Apicurio Registry as the archive it is
//! distributed in; `MinIO` is built by `go install` through the Go module proxy; the readers of object files and the emulator of
//! BigQuery are Python packages from `PyPI` (`{readers,bigquery}/requirements.txt`) in environments of their own. A program counts as present only when it is whole:
//! jars are copied aside and moved into place in one step, a `minio` must hold the wanted version and run, and an environment
//! says last of what it was made.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;

/// The release of Apache Kafka that is brought up; the pom names the same one.
pub const KAFKA_VERSION: &str = "4.3.1";

/// The `MinIO` that is built. Its release tags are no semantic versions, so Go knows it by a pseudo-version.
pub const MINIO_VERSION: &str = "v0.0.0-20260212201848-7aac2a2c5b7c";

/// The release of Apicurio Registry that is brought up: the last one that runs on Java 17.
pub const APICURIO_VERSION: &str = "3.0.9";

/// Unpacks an archive without the parent's description, which not every repository has.
const MAVEN_UNPACK: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8:unpack";

const MINIO_PACKAGE: &str = "github.com/minio/minio";
const KAFKA_POM: &str = include_str!("../../services/kafka/pom.xml");
const KAFKA_LOGGING: &str = include_str!("../../services/kafka/log4j2.xml");

const READERS: &str = include_str!("../../readers/requirements.txt");
const BIGQUERY: &str = include_str!("../../bigquery/requirements.txt");
const DUCKDB_EXTENSIONS: &str = include_str!("../../bigquery/extensions.py");

const JAVA: Tool = Tool {
    name: "java",
    install: "a Java runtime 17 or newer (Debian: `apt-get install openjdk-17-jre-headless`)",
};
const MAVEN: Tool = Tool { name: "mvn", install: "Apache Maven (Debian: `apt-get install maven`)" };
const PYTHON: Tool = Tool {
    name: "python3",
    install: "Python 3.11 or newer with venv (Debian: `apt-get install python3-venv`)",
};
const GO: Tool = Tool { name: "go", install: "Go 1.24 or newer (https://go.dev/dl)" };

/// The directory that holds programs and state: `$AQUEDUCT_CACHE`, else `$XDG_CACHE_HOME`, else `~/.cache`, and `aqueduct` below it.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What it takes to run a schema registry.
#[derive(Clone, Debug)]
pub(super) struct RegistryProgram {
    pub(super) java: PathBuf,
    pub(super) jar: PathBuf,
}

/// What it takes to run an emulator of BigQuery.
#[derive(Clone, Debug)]
pub(super) struct BigQueryProgram {
    pub(super) python: PathBuf,
    /// The home directory that it is to have.
    pub(super) home: PathBuf,
}

/// What it takes to run a broker.
#[derive(Clone, Debug)]
pub(super) struct KafkaProgram {
    pub(super) java: PathBuf,
    pub(super) class_path: String,
}

impl Cache {
    /// The cache the environment names.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
    }

    fn from_vars(var: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let base = var("AQUEDUCT_CACHE")
            .or_else(|| var("XDG_CACHE_HOME"))
            .or_else(|| Some(var("HOME")?.join(".cache")))
            .context("no place for a cache: set AQUEDUCT_CACHE or HOME")?;
        Ok(Self { root: base.join("aqueduct") })
    }

    /// The directory itself, created on first use.
    pub fn dir(&self) -> Result<&Path> {
        create_dir(&self.root)?;
        Ok(&self.root)
    }

    /// Takes the lock `name`, held until the file is dropped: two runs must not install, or start, the same thing at once.
    pub(super) fn lock(&self, name: &str) -> Result<File> {
        let path = self.dir()?.join(name);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// Makes sure that a broker can be run; downloads its jars if they are not here (about 45 MB).
    pub(super) fn kafka(&self) -> Result<KafkaProgram> {
        let java = JAVA.locate()?;
        let home = self.dir()?.join(format!("kafka-{KAFKA_VERSION}"));
        let (libs, marker) = (home.join("libs"), home.join(".ok"));
        let _lock = self.lock("install.lock")?;
        // The marker holds the pom it was made from, so that a changed pom fetches again.
        if fs::read_to_string(&marker).is_ok_and(|pom| pom == KAFKA_POM) && libs.is_dir() {
            tracing::debug!(libs = %libs.display(), "kafka is in the cache");
        } else {
            fetch_jars(&home, &libs)?;
            write(&home.join("log4j2.xml"), KAFKA_LOGGING)?;
            write(&marker, KAFKA_POM)?;
        }
        let class_path = format!("{}:{}/*", home.display(), libs.display());
        Ok(KafkaProgram { java, class_path })
    }

    /// Makes sure that a schema registry can be run; downloads it if it is not here (about 110 MB).
    pub(super) fn registry(&self) -> Result<RegistryProgram> {
        let java = JAVA.locate()?;
        let home = self.dir()?.join(format!("apicurio-{APICURIO_VERSION}"));
        let jar = home.join(format!("apicurio-registry-app-{APICURIO_VERSION}-runner.jar"));
        let _lock = self.lock("install.lock")?;
        // Moved into place in one step: what is there is whole.
        if jar.is_file() {
            tracing::debug!(jar = %jar.display(), "apicurio registry is in the cache");
            return Ok(RegistryProgram { java, jar });
        }
        let maven = MAVEN.locate()?;
        let staging = home.with_extension("part");
        remove_dir(&staging)?;
        create_dir(&staging)?;
        tracing::info!(
            "fetching Apicurio Registry {APICURIO_VERSION} from Maven Central into {}",
            home.display()
        );
        let mut unpack = Command::new(maven);
        unpack.args(["--quiet", "--batch-mode", MAVEN_UNPACK]).current_dir(&staging);
        unpack.arg(format!("-Dartifact=io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all"));
        unpack.arg(format!("-DoutputDirectory={}", staging.display()));
        run(&mut unpack, "is Maven Central reachable (~/.m2/settings.xml for a mirror or proxy)?")?;
        remove_dir(&home)?;
        fs::rename(&staging, &home)
            .with_context(|| format!("cannot move the registry to {}", home.display()))?;
        ensure!(jar.is_file(), "the archive held no {}", jar.display());
        Ok(RegistryProgram { java, jar })
    }

    /// Makes sure that there is a `MinIO` to run; builds it if there is none (5 to 10 minutes on two cores).
    pub(super) fn minio(&self) -> Result<PathBuf> {
        let bin = self.dir()?.join("bin");
        let minio = bin.join("minio");
        let _lock = self.lock("install.lock")?;
        if is_whole_minio(&minio) {
            tracing::debug!(program = %minio.display(), "minio is in the cache");
            return Ok(minio);
        }
        let go = GO.locate()?;
        let staging = bin.join(".building");
        create_dir(&staging)?;
        tracing::info!("building MinIO {MINIO_VERSION} into {}: 5 to 10 minutes, once", bin.display());
        let mut build = Command::new(go);
        build.arg("install").arg(format!("{MINIO_PACKAGE}@{MINIO_VERSION}")).env("GOBIN", &staging);
        run(&mut build, "is the Go module proxy reachable (GOPROXY)?")?;
        fs::rename(staging.join("minio"), &minio).context("go install left no `minio`")?;
        fs::remove_dir(&staging).ok();
        ensure!(
            is_whole_minio(&minio),
            "{} was built but does not run as MinIO {MINIO_VERSION}",
            minio.display()
        );
        Ok(minio)
    }

    /// Makes sure that there is a Python with the readers' packages; fetches them if they are not here (about 80 MB).
    pub(crate) fn python(&self) -> Result<PathBuf> {
        self.environment("readers", READERS, "the readers of object files", |_| Ok(()))
    }

    /// Makes sure that an emulator of BigQuery and Google's client can be run; fetches them if they are not here (about 200 MB).
    pub(super) fn bigquery(&self) -> Result<BigQueryProgram> {
        let home = self.dir()?.join("bigquery").join("home");
        let python = self.environment("bigquery", BIGQUERY, "an emulator of BigQuery", |python| {
            let mut place = Command::new(python);
            place.args(["-I", "-c", DUCKDB_EXTENSIONS]).arg(&home);
            run(&mut place, "DuckDB's extensions have moved within their packages").map(drop)
        })?;
        Ok(BigQueryProgram { python, home })
    }

    /// The Python of an environment that has the packages of `requirements`, made with `finish` if it is not here.
    fn environment(
        &self,
        name: &str,
        requirements: &str,
        what: &str,
        finish: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let system = PYTHON.locate()?;
        let home = self.dir()?.join(name);
        let (python, marker) = (home.join("bin").join("python"), home.join(".ok"));
        let _lock = self.lock("install.lock")?;
        let version = run(Command::new(&system).arg("--version"), PYTHON.install)?.stdout;
        // The environment leans on the Python it was made with: another one makes it again.
        let wanted = format!("{}{requirements}", String::from_utf8_lossy(&version));
        if fs::read_to_string(&marker).is_ok_and(|made_of| made_of == wanted) {
            tracing::debug!(python = %python.display(), "{what}: in the cache");
            return Ok(python);
        }
        remove_dir(&home)?;
        tracing::info!("fetching {what} from PyPI into {}", home.display());
        run(Command::new(system).args(["-m", "venv"]).arg(&home), PYTHON.install)?;
        let list = home.join("requirements.txt");
        write(&list, requirements)?;
        let mut install = Command::new(&python);
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary=:all:",
        ]);
        install.arg("--requirement").arg(&list);
        run(&mut install, "is PyPI reachable (PIP_INDEX_URL for a mirror), and Python 3.11 or newer?")?;
        finish(&python)?;
        write(&marker, &wanted)?;
        Ok(python)
    }
}

/// Runs `command` to its end; an error tells `hint` and the end of what it printed.
pub(super) fn run(command: &mut Command, hint: &str) -> Result<Output> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let printed = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        bail!("{program} failed ({}); {hint}\n{}", output.status, tail(&String::from_utf8_lossy(&printed)));
    }
    Ok(output)
}

/// The last lines of `text`.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
}

pub(super) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create the directory {}", path.display()))
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn fetch_jars(home: &Path, libs: &Path) -> Result<()> {
    let maven = MAVEN.locate()?;
    let staging = home.join("libs.part");
    remove_dir(&staging)?;
    create_dir(&staging)?;
    let pom = home.join("pom.xml");
    write(&pom, KAFKA_POM)?;
    tracing::info!("fetching Apache Kafka {KAFKA_VERSION} from Maven Central into {}", libs.display());
    let mut copy = Command::new(maven);
    copy.args(["--quiet", "--batch-mode", "--file"]).arg(&pom);
    copy.args(["dependency:copy-dependencies", "-DincludeScope=runtime"]);
    copy.arg(format!("-DoutputDirectory={}", staging.display()));
    run(&mut copy, "is Maven Central reachable (~/.m2/settings.xml for a mirror or proxy)?")?;
    let broker = staging.join(format!("kafka_2.13-{KAFKA_VERSION}.jar"));
    ensure!(broker.is_file(), "Maven copied no {}", broker.display());
    remove_dir(libs)?;
    fs::rename(&staging, libs).with_context(|| format!("cannot move the jars to {}", libs.display()))
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether `program` carries the wanted version (Go writes it into what it builds) and runs, which half a file does not.
fn is_whole_minio(program: &Path) -> bool {
    let wanted = format!("mod\t{MINIO_PACKAGE}\t{MINIO_VERSION}\t");
    fs::read(program).is_ok_and(|image| memmem::find(&image, wanted.as_bytes()).is_some())
        && Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A program that must be installed by hand.
#[derive(Debug)]
struct Tool {
    name: &'static str,
    install: &'static str,
}

impl Tool {
    fn locate(&self) -> Result<PathBuf> {
        self.locate_in(&env::var_os("PATH").unwrap_or_default())
    }

    fn locate_in(&self, path: &OsStr) -> Result<PathBuf> {
        env::split_paths(path)
            .map(|dir| dir.join(self.name))
            .find(|program| {
                fs::metadata(program).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
            })
            .with_context(|| format!("`{}` is not on the PATH: install {}", self.name, self.install))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_the_version_the_cache_is_named_after() {
        assert!(KAFKA_POM.contains(&format!("<kafka.version>{KAFKA_VERSION}</kafka.version>")));
    }

    #[test]
    fn a_missing_tool_is_named_with_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let error = MAVEN.locate_in(empty.path().as_os_str()).unwrap_err().to_string();
        assert!(error.contains("`mvn`") && error.contains("apt-get install maven"), "{error}");
        // A file that cannot be executed is no program either.
        fs::write(empty.path().join("mvn"), "").unwrap();
        assert!(MAVEN.locate_in(empty.path().as_os_str()).is_err());
        fs::set_permissions(empty.path().join("mvn"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(MAVEN.locate_in(empty.path().as_os_str()).unwrap(), empty.path().join("mvn"));
    }

    #[test]
    fn half_a_minio_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("minio");
        assert!(!is_whole_minio(&program));
        // The right version string in a file that does not run, and a program that runs but is another one.
        fs::write(&program, format!("\x7fELF mod\t{MINIO_PACKAGE}\t{MINIO_VERSION}\th1:")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!is_whole_minio(&program));
        assert!(!is_whole_minio(Path::new("/bin/true")));
    }

    #[test]
    fn the_cache_follows_the_environment() {
        let root = |vars: &[(&str, &str)]| {
            let var =
                |name: &str| vars.iter().find(|(it, _)| *it == name).map(|(_, value)| PathBuf::from(value));
            Cache::from_vars(var).map(|cache| cache.root.display().to_string()).ok()
        };
        assert_eq!(root(&[("HOME", "/h")]).as_deref(), Some("/h/.cache/aqueduct"));
        assert_eq!(root(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).as_deref(), Some("/x/aqueduct"));
        assert_eq!(
            root(&[("XDG_CACHE_HOME", "/x"), ("AQUEDUCT_CACHE", "/a")]).as_deref(),
            Some("/a/aqueduct")
        );
        assert_eq!(root(&[]), None);
    }
}
