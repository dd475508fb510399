//! What blocks: plain synchronous functions, as they end up in async handlers.
//!
//! Each is kept out of line, so that it is a frame of its own in a release build without debug
//! info, as the larger functions of real programs are.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::ToSocketAddrs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

const CATALOGUE_ITEMS: usize = 20_000;
const ORDERS_BYTES: usize = 4 << 20;
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
}

impl Shop {
    /// Makes the data that the endpoints work on.
    pub fn open(resolve: String) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("demo-server-{}", std::process::id()));
        let orders = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Shop {
            catalogue: catalogue(),
            orders: Mutex::new(orders),
            order_count: Mutex::new(0),
            resolve,
        })
    }
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

/// Waits for the disk: writes, makes sure, and reads back.
#[inline(never)]
pub fn read_orders(shop: &Shop) -> io::Result<usize> {
    let mut file = shop.orders.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&vec![b'x'; ORDERS_BYTES])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut orders = Vec::new();
    file.read_to_end(&mut orders)
}

/// Resolves a name with the C library's resolver: files, and the network where they don't do.
#[inline(never)]
pub fn resolve_peer(shop: &Shop) -> io::Result<usize> {
    Ok((shop.resolve.as_str(), 80).to_socket_addrs()?.count())
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
