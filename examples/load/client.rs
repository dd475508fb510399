//! As much HTTP/1.1 as a load generator needs: one connection, one request after another.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Answers are small; a larger one is a mistake somewhere.
const MAX_ANSWER: usize = 1 << 20;

/// A connection to a server on this machine, kept open between requests.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Connects to a port on loopback.
    pub async fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends a request and reads the whole answer, of which it returns the status.
    pub async fn request(&mut self, method: &str, path: &str, body: &str) -> io::Result<u16> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len(),
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        loop {
            if let Some(head) = Head::parse(&self.received)?
                && self.received.len() >= head.answer_len
            {
                return Ok(head.status);
            }
            if self.received.len() > MAX_ANSWER {
                return Err(invalid("the answer is too large"));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// What counts in an answer's head.
struct Head {
    status: u16,
    /// Length of head and body together.
    answer_len: usize,
}

impl Head {
    /// Reads the head once it is complete. Only answers with a `content-length` are understood.
    fn parse(received: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&received[..end]);
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| invalid("no status"))?;
        let body_len: usize = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .ok_or_else(|| invalid("no content-length"))?;
        Ok(Some(Head {
            status,
            answer_len: (end + 4).saturating_add(body_len),
        }))
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
