//! The encodings with a structure of their own, as nobody should send them, and all of them behind one type.
//!
//! What is hostile is gathered in this one process, because its high-water mark of memory is what the tests look at.

#[cfg(test)]
#[cfg(feature = "avro")]
mod avro;
#[cfg(test)]
#[cfg(all(
    feature = "avro",
    feature = "cbor",
    feature = "connect-json",
    feature = "json-schema",
    feature = "messagepack",
    feature = "protobuf"
))]
mod decoders;
#[cfg(test)]
#[cfg(all(feature = "cbor", feature = "connect-json", feature = "messagepack"))]
mod dynamic;

/// All that this process has judged so far took less memory than a container of 128 MiB has, where the kernel tells.
#[cfg(test)]
#[cfg(feature = "avro")]
fn assert_memory_is_bounded() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap();
    assert!(peak < 128 << 10, "the process had {peak} KiB");
}
