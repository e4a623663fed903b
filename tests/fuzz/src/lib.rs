//! What holds of every finished flow, for the fuzzer and for tests that cannot know what a record should be.

pub mod identities;
