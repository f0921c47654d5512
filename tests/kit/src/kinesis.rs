//! A stream of one shard in memory, for readers.

use serde_json::{Value, json};

use crate::http::{HttpResponse, respond_json};

/// The digits of a sequence number. Kinesis has 56, and emulators have fewer.
const DIGITS: usize = 30;

#[derive(Debug)]
pub struct Record {
    pub sequence_number: u64,
    pub arrived_ms: i64,
    /// As base64.
    pub data: String,
}

#[derive(Debug, Default)]
pub struct Shard {
    pub stream: &'static str,
    /// Empty when the shard is so old that Kinesis does not list it any more.
    pub id: &'static str,
    pub records: Vec<Record>,
    /// Most records in a response.
    pub page: usize,
    /// Reads that are throttled before one succeeds.
    pub throttles: usize,
}

impl Shard {
    /// Does what a request asks for, such as `Kinesis_20131202.GetRecords`.
    pub fn answer(&mut self, target: &str, request: &Value) -> HttpResponse {
        match target.strip_prefix("Kinesis_20131202.").unwrap() {
            "ListShards" => {
                assert_eq!(request["StreamName"], self.stream);
                let shard = json!({
                    "ShardId": self.id,
                    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
                    "SequenceNumberRange": {"StartingSequenceNumber": format!("{:0DIGITS$}", 0)},
                });
                respond_json(200, &json!({"Shards": if self.id.is_empty() { vec![] } else { vec![shard] }}))
            }
            "GetShardIterator" => {
                let index = match request["ShardIteratorType"].as_str().unwrap() {
                    "TRIM_HORIZON" => 0,
                    "AFTER_SEQUENCE_NUMBER" => {
                        let at: u64 = request["StartingSequenceNumber"].as_str().unwrap().parse().unwrap();
                        self.records.partition_point(|record| record.sequence_number <= at)
                    }
                    "AT_TIMESTAMP" => {
                        let seconds = request["Timestamp"].as_f64().unwrap();
                        #[expect(clippy::cast_precision_loss, reason = "milliseconds fit")]
                        self.records.partition_point(|record| (record.arrived_ms as f64) < seconds * 1_000.0)
                    }
                    other => {
                        assert_eq!(other, "AT_SEQUENCE_NUMBER");
                        let at = request["StartingSequenceNumber"].as_str().unwrap();
                        assert_eq!(at.len(), DIGITS);
                        let at: u64 = at.parse().unwrap();
                        self.records.partition_point(|record| record.sequence_number < at)
                    }
                };
                respond_json(200, &json!({"ShardIterator": index.to_string()}))
            }
            "GetRecords" if self.throttles > 0 => {
                self.throttles -= 1;
                respond_json(400, &json!({"__type": "ProvisionedThroughputExceededException"}))
            }
            "GetRecords" => {
                let from: usize = request["ShardIterator"].as_str().unwrap().parse().unwrap();
                let limit = request["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
                let page = self.records.iter().skip(from).take(limit.unwrap_or(self.page));
                let records: Vec<Value> = page.map(Record::json).collect();
                let next = (from + records.len()).to_string();
                let behind = self.behind(from + records.len());
                respond_json(200, &json!({"Records": records, "NextShardIterator": next, "MillisBehindLatest": behind}))
            }
            other => panic!("{other} is not part of this stream"),
        }
    }
}

impl Shard {
    /// How long before the newest record the one before this index arrived, in milliseconds.
    fn behind(&self, index: usize) -> i64 {
        let arrived = |record: Option<&Record>| record.map_or(0, |record| record.arrived_ms);
        let before = index.checked_sub(1).and_then(|before| self.records.get(before));
        if index >= self.records.len() { 0 } else { arrived(self.records.last()) - arrived(before) }
    }
}

impl Record {
    fn json(&self) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds fit")]
        let seconds = self.arrived_ms as f64 / 1_000.0;
        json!({
            "SequenceNumber": format!("{:0DIGITS$}", self.sequence_number), "PartitionKey": "k", "Data": self.data,
            "ApproximateArrivalTimestamp": seconds,
        })
    }
}
