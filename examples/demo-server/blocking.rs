//! What blocks: plain synchronous functions, as they end up in async handlers.
//!
//! Each is kept out of line, so that it is a frame of its own in a release build without debug
//! info, as the larger functions of real programs are.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

const CATALOGUE_ITEMS: usize = 20_000;
/// A journal that is made safe after each entry: where the disk is slow, so is this.
const JOURNAL_ENTRIES: usize = 24;
const ENTRY_BYTES: usize = 64 << 10;
const PEERS: usize = 32;
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(500);
const TIMEOUTS_AT_MOST: u32 = 3;
const LEGACY_CALL: Duration = Duration::from_millis(20);
/// bcrypt's default is 12, which takes four times as long.
const HASH_COST: u32 = 10;

/// What the handlers share.
pub struct Shop {
    catalogue: String,
    /// Has no name any more, and goes with the process.
    orders: Mutex<File>,
    order_count: Mutex<u64>,
    resolve: String,
    lookups_timed_out: AtomicU32,
}

impl Shop {
    /// Makes the data that the endpoints work on.
    pub fn open(resolve: String) -> io::Result<Self> {
        // Not /tmp, which is memory in many distributions.
        let name = format!("demo-server-{}", std::process::id());
        let on_disk = Path::new("/var/tmp").join(&name);
        let (orders, path) = match create(&on_disk) {
            Ok(file) => (file, on_disk),
            Err(_) => {
                let path = std::env::temp_dir().join(&name);
                (create(&path)?, path)
            }
        };
        std::fs::remove_file(&path)?;
        Ok(Shop {
            catalogue: catalogue(),
            orders: Mutex::new(orders),
            order_count: Mutex::new(0),
            resolve,
            lookups_timed_out: AtomicU32::new(0),
        })
    }
}

fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

/// A JSON document of a few megabytes.
fn catalogue() -> String {
    let mut text = String::from("[");
    for n in 0..CATALOGUE_ITEMS {
        let comma = if n == 0 { "" } else { "," };
        let price = n * 7919 % 10_000;
        let _ = write!(
            text,
            r#"{comma}{{"id":{n},"name":"item {n}","price":{price},"tags":["a{price}","b"],"stock":{{"here":{n},"there":null}}}}"#
        );
    }
    text.push(']');
    text
}

/// Computes: a password hash is slow on purpose.
#[inline(never)]
pub fn hash_password(password: &str) -> String {
    bcrypt::hash(password, HASH_COST).unwrap_or_else(|error| error.to_string())
}

/// Computes: a large document, parsed in one go.
#[inline(never)]
pub fn parse_catalogue(shop: &Shop) -> usize {
    let parsed = serde_json::from_str::<Vec<Value>>(&shop.catalogue);
    parsed.map_or(0, |items| items.len())
}

/// Computes: compression at the level that nobody needs.
#[inline(never)]
pub fn compress_catalogue(shop: &Shop) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(shop.catalogue.as_bytes());
    let finished = written.and_then(|()| encoder.finish());
    finished.map_or(0, |bytes| bytes.len())
}

/// Waits for the disk: writes a journal, makes every entry safe, and reads it back.
#[inline(never)]
pub fn read_orders(shop: &Shop) -> io::Result<usize> {
    let mut file = shop.orders.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = vec![b'x'; ENTRY_BYTES];
    file.seek(SeekFrom::Start(0))?;
    for _ in 0..JOURNAL_ENTRIES {
        file.write_all(&entry)?;
        file.sync_data()?;
    }
    file.seek(SeekFrom::Start(0))?;
    let mut orders = Vec::new();
    file.read_to_end(&mut orders)
}

/// Looks for peers, one name after the other, with the C library's resolver: it asks the network for
/// what its files don't know. Returns how many were found.
#[inline(never)]
pub fn resolve_peers(shop: &Shop) -> usize {
    let mut found = 0;
    for _ in 0..PEERS {
        // A name server that does not answer would hold everything up for good.
        if shop.lookups_timed_out.load(Ordering::Relaxed) >= TIMEOUTS_AT_MOST {
            break;
        }
        let started = Instant::now();
        found += usize::from((shop.resolve.as_str(), 80).to_socket_addrs().is_ok());
        if started.elapsed() >= LOOKUP_TIMEOUT {
            shop.lookups_timed_out.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    found
}

/// Waits twice: for the lock, which all orders share, and with it held for a slow backend.
#[inline(never)]
pub fn process_order(shop: &Shop, order: &Value) -> u64 {
    let count = shop.order_count.lock();
    let mut count = count.unwrap_or_else(PoisonError::into_inner);
    call_legacy_backend(order);
    *count += 1;
    *count
}

/// A driver that knows no async, and takes its time.
#[inline(never)]
fn call_legacy_backend(order: &Value) {
    std::hint::black_box(order);
    std::thread::sleep(LEGACY_CALL);
}
