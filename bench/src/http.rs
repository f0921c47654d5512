//! As much HTTP/1.1 as a stub needs: a request is read, an answer is written.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};

/// A request, read to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// In capitals.
    pub method: String,
    /// With its query.
    pub path: String,
    /// As it was before any chunked encoding.
    pub body: Vec<u8>,
}

impl Request {
    /// The next request of a connection; `None` when the other side is done with it.
    pub fn read<S: Read + Write>(stream: &mut BufReader<S>) -> Result<Option<Self>> {
        let first = line(stream)?;
        let mut words = first.split(' ');
        let Some((method, path)) = words.next().zip(words.next()) else { return Ok(None) };
        let (method, path) = (method.to_owned(), path.to_owned());
        let (mut length, mut chunked, mut aws_chunked) = (0, false, false);
        loop {
            let header = line(stream)?.to_ascii_lowercase();
            let Some((name, value)) = header.split_once(':') else { break };
            match (name, value.trim()) {
                ("content-length", value) => length = value.parse().map_err(invalid)?,
                ("transfer-encoding", value) => chunked = value.contains("chunked"),
                ("content-encoding", value) => aws_chunked = value.contains("aws-chunked"),
                ("expect", _) => {
                    stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                    stream.get_mut().flush()?;
                }
                _ => {}
            }
        }
        let mut body = if chunked { unchunked(stream)? } else { exactly(stream, length)? };
        if aws_chunked {
            body = unchunked(&mut &*body)?;
        }
        Ok(Some(Self { method, path, body }))
    }
}

/// Answers a request. `headers` are whole lines.
pub fn respond(mut stream: impl Write, status: &str, headers: &str, body: &[u8]) -> Result<()> {
    let mut answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    stream.write_all(&answer)?;
    stream.flush()
}

/// A line without its end; empty at the end of the stream.
fn line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}

fn exactly(stream: &mut impl Read, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Chunks put together; what follows the last one (checksums) is passed over.
fn unchunked(stream: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let size = line(stream)?;
        let size = size.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(invalid)?;
        if size == 0 {
            while !line(stream)?.is_empty() {}
            return Ok(bytes);
        }
        bytes.extend(exactly(stream, size)?);
        line(stream)?;
    }
}

fn invalid(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::InvalidData, cause)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(text: &str) -> Option<Request> {
        Request::read(&mut BufReader::new(Cursor::new(text.as_bytes().to_vec()))).unwrap()
    }

    #[test]
    fn a_body_is_the_same_however_it_was_sent() {
        let plain = read("PUT /lake/a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        assert_eq!(plain, Request { method: "PUT".to_owned(), path: "/lake/a".to_owned(), body: b"hello".to_vec() });
        let aws = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
        let headers = "PUT /lake/a HTTP/1.1\r\nContent-Encoding: aws-chunked\r\n";
        assert_eq!(read(&format!("{headers}Content-Length: {}\r\n\r\n{aws}", aws.len())).unwrap(), plain);
        let (a, b) = aws.split_at(20);
        let twice = format!("{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len());
        assert_eq!(read(&format!("{headers}Transfer-Encoding: chunked\r\n\r\n{twice}")).unwrap(), plain);
    }

    #[test]
    fn the_end_of_a_connection_is_no_request() {
        assert_eq!(read(""), None);
    }
}
