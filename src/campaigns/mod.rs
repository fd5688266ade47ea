//! Campaign definitions: copy, variants, control share and rules, as marketers own them.
//!
//! Loading reads files and reports every fault at once; what it yields is complete, checked and immutable.

mod definition;
mod fields;
mod layout;
mod load;
mod names;
mod parse;
mod variants;

pub use definition::{Campaign, Campaigns, ChannelMessage, Field, MAX_VARIANTS, Status, Variant};
pub(crate) use fields::{Checked, Object};
pub use layout::{Layout, Own};
pub use load::{LoadOptions, load};
pub use names::attribute_faults;
pub use variants::{Slices, hash_slice};
