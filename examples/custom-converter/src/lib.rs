//! A converter of one's own: [`fixed_width::FixedWidth`].

pub mod fixed_width;
