//! What does not fit does not compile, and the compiler says what to do.
//!
//! The messages are kept beside the programs. When a new compiler words its part otherwise, look at the difference, then
//! write them anew: `TRYBUILD=overwrite cargo test -p aqueduct-core --test compile`.

#[test]
fn what_does_not_fit_does_not_compile() {
    let cases = trybuild::TestCases::new();
    for wrong in [
        "missing_partitioner",
        "build_before_sink",
        "wrong_order",
        "value_without_fields",
        "sink_of_another_value",
        "not_a_converter",
        "batch_sink_without_batched",
    ] {
        cases.compile_fail(format!("tests/compile/{wrong}.rs"));
    }
}
