//! By tenant, in a bounded number of routes.
//!
//! ```text
//! tenant=acme/shard=03        a tenant with routes of its own; which shard, its key says
//! tenant=_shared/shard=11     all other tenants; which shard, the tenant says
//! tenant=_none/shard=00       records that name no tenant
//! ```
//!
//! A route for every tenant is one small object for every tenant and segment. Here the few large ones have theirs, and the long
//! tail shares a fixed number. Every route has the same two columns, as query engines want it.

use std::collections::BTreeMap;

use aqueduct::{
    FieldPath, FieldPathError, FieldValue, Fields, Fingerprint, Partitioner, Poison, PoisonReason, Record,
    RoutePath,
};

/// Routes records by their tenant, which a header names, or a field of the value, or both.
///
/// These are poison: a tenant that is no [id](Self::is_id), and two that differ. Which of the two is right is not for a layout to
/// guess: one guess in two would put a tenant's data where another tenant may read it.
///
/// ```
/// use custom_partitioner::by_tenant::ByTenant;
///
/// let layout = ByTenant::named("tenant", "meta.tenant")?.own("acme", 4)?.own("globex", 1)?.shared(16)?;
/// # Ok::<(), custom_partitioner::by_tenant::LayoutError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ByTenant {
    header: String,
    field: FieldPath,
    /// Sorted, so that the order in which they were configured is not part of the layout's identity.
    own: BTreeMap<String, u32>,
    shared: u32,
    /// `00`, `01`, …: made once and not for each record.
    shards: Vec<String>,
}

/// Why a layout cannot be made; found before a record is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The path of the field is malformed.
    #[error(transparent)]
    Path(#[from] FieldPathError),
    /// What no record could name.
    #[error("{id:?} is no tenant: ids have lower-case letters, digits and dashes, {ID_MAX} at most")]
    Id {
        /// As given.
        id: String,
    },
    /// One of two numbers of shards would win.
    #[error("tenant {id} is listed twice")]
    Twice {
        /// The tenant.
        id: String,
    },
    /// No shard, or more than names have digits for.
    #[error("{shards} shards for {whom}: give 1 to {SHARDS_MAX}")]
    Shards {
        /// The tenant, or the shared ones.
        whom: String,
        /// As given.
        shards: u32,
    },
}

/// The longest id, as labels of DNS have it.
pub const ID_MAX: usize = 63;
/// The most shards of a tenant, or of those that share.
pub const SHARDS_MAX: u32 = 100;

/// No id has an underscore, so no tenant can call itself that.
const SHARED: &str = "_shared";
const NONE: &str = "_none";

impl ByTenant {
    /// The tenant is in the header `header`, or in the field at the dotted path `field`. The shared shards are 16.
    ///
    /// # Errors
    /// If the path has an empty segment.
    pub fn named(header: &str, field: &str) -> Result<Self, LayoutError> {
        Ok(Self {
            header: header.to_owned(),
            field: FieldPath::parse(field)?,
            own: BTreeMap::new(),
            shared: 16,
            shards: (0..SHARDS_MAX).map(|shard| format!("{shard:02}")).collect(),
        })
    }

    /// Gives a tenant routes of its own: as many as readers should work on at once.
    ///
    /// # Errors
    /// If it is no id, or listed already, or the number of shards is 0 or too large.
    pub fn own(mut self, id: &str, shards: u32) -> Result<Self, LayoutError> {
        if !Self::is_id(id) {
            return Err(LayoutError::Id { id: id.to_owned() });
        }
        let shards = checked(id, shards)?;
        if self.own.insert(id.to_owned(), shards).is_some() {
            return Err(LayoutError::Twice { id: id.to_owned() });
        }
        Ok(self)
    }

    /// How many shards the other tenants share.
    ///
    /// # Errors
    /// If the number is 0 or too large.
    pub fn shared(mut self, shards: u32) -> Result<Self, LayoutError> {
        self.shared = checked("the tenants that share", shards)?;
        Ok(self)
    }

    /// Whether `text` can be a tenant: lower-case letters, digits and dashes, [`ID_MAX`] at most. `Acme` is not `acme`, and
    /// whether it is meant to be is for those to say who name tenants.
    pub fn is_id(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=ID_MAX).contains(&text.len()) && text.bytes().all(plain)
    }

    /// The one tenant that all headers of that name have; null names nobody.
    fn in_headers<'a>(&self, record: &Record<'a>) -> Result<Option<&'a str>, Poison> {
        let mut found = None;
        for value in record.headers().filter_map(|(name, value)| value.filter(|_| name == self.header)) {
            let id = std::str::from_utf8(value).ok().filter(|text| Self::is_id(text));
            let id = id.ok_or_else(|| self.refused("the header", "is no tenant's id"))?;
            if found.is_some_and(|other| other != id) {
                return Err(self.refused("the header", "is there twice and names two tenants"));
            }
            found = Some(id);
        }
        Ok(found)
    }

    /// The tenant in the field; null names nobody, as absence does.
    fn in_field<'a>(&self, field: Option<&'a FieldValue<'_>>) -> Result<Option<&'a str>, Poison> {
        match field {
            None | Some(FieldValue::Null) => Ok(None),
            Some(FieldValue::Str(text)) if Self::is_id(text) => Ok(Some(text)),
            Some(_) => Err(self.refused("the field", "is no tenant's id")),
        }
    }

    /// Says the place and what is wrong there, and never the text: letters and logs are read by more people than tenants are.
    #[cold]
    fn refused(&self, place: &str, what: &str) -> Poison {
        let name = if place == "the header" { self.header.clone() } else { self.field.to_string() };
        Poison::new(PoisonReason::InvalidField, format!("tenant: {place} {name} {what}"))
    }
}

impl<T: Fields + ?Sized> Partitioner<T> for ByTenant {
    /// Asks nothing but the record: no counter, no clock, no random number, no service. It is asked again after a crash, by
    /// another process, with other neighbours, and what it says then decides whether rows are there once.
    fn route(&self, record: &Record<'_>, value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        let field = value.field(&self.field);
        let tenant = match (self.in_headers(record)?, self.in_field(field.as_ref())?) {
            (Some(header), Some(field)) if header != field => {
                return Err(Poison::new(
                    PoisonReason::Refused,
                    format!("tenant: header {} and field {} name different ones", self.header, self.field),
                ));
            }
            (header, field) => header.or(field),
        };
        let (tenant, shard) = match tenant {
            None => (NONE, 0),
            Some(tenant) => match self.own.get(tenant) {
                None => (SHARED, hash(tenant.as_bytes()) % self.shared),
                Some(&shards) => {
                    // Records of a key stay together and in order. Those without one are spread by what is theirs for ever: a
                    // counter would be simpler, and would give another answer to whoever reads from another offset.
                    let offset = record.offset().get().to_be_bytes();
                    (tenant, hash(record.key().unwrap_or(&offset)) % shards)
                }
            },
        };
        // Both escape what they are given; levels that are put together by hand and pushed as text would not be.
        path.push_field("tenant", tenant)?;
        path.push_field("shard", self.shards.get(shard as usize).map_or("", String::as_str))
    }

    /// Everything that decides a route, and nothing else. The number behind the name changes when the code above does.
    fn fingerprint(&self, parts: &mut Fingerprint) {
        let (header, field, shared) = (&self.header, self.field.segments(), self.shared);
        parts.put(
            "partitioner",
            format_args!("by-tenant/1 header={header:?} field={field:?} shared={shared}"),
        );
        for (tenant, shards) in &self.own {
            parts.put("partitioner", format_args!("{tenant}={shards}"));
        }
    }
}

/// CRC-32, because a standard says what it gives. Hashers of the standard library differ from process to process or may differ
/// from release to release. And a query engine can compute it too: in Trino and Athena a tenant's shard is
/// `crc32(to_utf8(tenant)) % 16`.
fn hash(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn checked(whom: &str, shards: u32) -> Result<u32, LayoutError> {
    if (1..=SHARDS_MAX).contains(&shards) {
        return Ok(shards);
    }
    Err(LayoutError::Shards { whom: whom.to_owned(), shards })
}
