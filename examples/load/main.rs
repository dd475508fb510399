//! A small load generator for the demo server: loopback only, and it ends by itself.
//!
//! Each client keeps one connection and sends one request after another, choosing endpoints by
//! weight. At the end it prints requests per second and latencies per endpoint.

mod client;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use client::Connection;
use hdrhistogram::Histogram;

/// Sends load to the demo server.
#[derive(Parser)]
#[command(name = "load")]
struct Args {
    /// Port of the demo server on 127.0.0.1
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Ends after this many seconds, at most 3600
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: u64,
    /// Clients, at most 1000
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    concurrency: u16,
    /// Pause of a client between two requests, milliseconds
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
    /// Only these endpoints, such as hash,process
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Latencies beyond an hour count as one.
const MAX_LATENCY_US: u64 = 3_600_000_000;

/// A request and how often it is sent, relative to the others.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    weight: u64,
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    body: &'static str,
    weight: u64,
) -> Endpoint {
    Endpoint {
        method,
        path,
        body,
        weight,
    }
}

static ENDPOINTS: [Endpoint; 8] = [
    endpoint("GET", "/hash", "", 2),
    endpoint("GET", "/parse", "", 3),
    endpoint("GET", "/compress", "", 2),
    endpoint("GET", "/read", "", 2),
    endpoint("GET", "/dns", "", 2),
    endpoint("POST", "/process", r#"{"data":"test"}"#, 4),
    endpoint("GET", "/hello", "", 20),
    endpoint("GET", "/healthy", "", 1),
];

/// Latencies in microseconds by path, and how many requests failed.
#[derive(Default)]
struct Tally {
    latencies: BTreeMap<&'static str, Histogram<u64>>,
    failed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let chosen = choose(&args.only)?;
    drop(
        Connection::open(args.port)
            .await
            .with_context(|| format!("no server on 127.0.0.1:{}; start demo-server", args.port))?,
    );
    let start = Instant::now();
    let end = start + Duration::from_secs(args.duration);
    let pause = Duration::from_millis(args.pause_ms);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..args.concurrency {
        clients.spawn(run_client(args.port, number, end, pause, chosen.clone()));
    }
    let mut total = Tally::default();
    while let Some(tally) = clients.join_next().await {
        let tally = tally?;
        total.failed += tally.failed;
        for (path, latencies) in tally.latencies {
            match total.latencies.get_mut(path) {
                Some(sum) => sum.add(latencies)?,
                None => drop(total.latencies.insert(path, latencies)),
            }
        }
    }
    print(&total, start.elapsed())
}

fn choose(only: &[String]) -> Result<Vec<&'static Endpoint>> {
    if let Some(unknown) = only
        .iter()
        .find(|name| !ENDPOINTS.iter().any(|e| e.path[1..] == **name))
    {
        bail!("no such endpoint: {unknown}");
    }
    Ok(ENDPOINTS
        .iter()
        .filter(|e| only.is_empty() || only.iter().any(|name| e.path[1..] == **name))
        .collect())
}

async fn run_client(
    port: u16,
    number: u16,
    end: Instant,
    pause: Duration,
    endpoints: Vec<&'static Endpoint>,
) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    let weights: u64 = endpoints.iter().map(|e| e.weight).sum();
    let mut random = u64::from(number) + 1;
    while Instant::now() < end {
        // A linear congruential generator: the same requests in every run.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut ticket = (random >> 33) % weights;
        let picked = endpoints.iter().find(|e| {
            let hit = ticket < e.weight;
            ticket = ticket.saturating_sub(e.weight);
            hit
        });
        let Some(endpoint) = picked else { continue };
        let started = Instant::now();
        // A server that hangs must not keep the load from ending.
        let patience = end.saturating_duration_since(started) + Duration::from_secs(2);
        match tokio::time::timeout(patience, send(&mut connection, port, endpoint)).await {
            Ok(Ok(200)) => {
                let micros = started.elapsed().as_micros() as u64;
                let latencies = tally.latencies.entry(endpoint.path).or_insert_with(|| {
                    Histogram::new_with_bounds(1, MAX_LATENCY_US, 3)
                        .expect("the bounds are in order")
                });
                latencies.saturating_record(micros);
            }
            _ => {
                tally.failed += 1;
                connection = None;
            }
        }
        tokio::time::sleep(pause).await;
    }
    tally
}

/// Sends one request, on the connection there is or a new one.
async fn send(
    connection: &mut Option<Connection>,
    port: u16,
    endpoint: &Endpoint,
) -> std::io::Result<u16> {
    let open = match connection.take() {
        Some(open) => open,
        None => Connection::open(port).await?,
    };
    connection
        .insert(open)
        .request(endpoint.method, endpoint.path, endpoint.body)
        .await
}

fn print(total: &Tally, elapsed: Duration) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<10} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "endpoint", "requests", "per s", "p50 ms", "p99 ms", "max ms"
    )?;
    let millis = |micros: u64| micros as f64 / 1e3;
    for (path, latencies) in &total.latencies {
        writeln!(
            out,
            "{path:<10} {:>8} {:>8.1} {:>9.1} {:>9.1} {:>9.1}",
            latencies.len(),
            latencies.len() as f64 / elapsed.as_secs_f64(),
            millis(latencies.value_at_quantile(0.5)),
            millis(latencies.value_at_quantile(0.99)),
            millis(latencies.max()),
        )?;
    }
    if total.failed > 0 {
        writeln!(out, "failed requests: {}", total.failed)?;
    }
    if total.latencies.is_empty() {
        bail!("no request was answered");
    }
    Ok(())
}
