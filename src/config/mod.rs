//! Configuration: fragments as typed, merged, validated settings.
pub mod settings;
