{
	"dfmVersion":	"1.1",
	"taskInfo":	{
		"name":	"EDW_TO_S3",
		"sourceEndpoint":	"EDW",
		"sourceEndpointType":	"Oracle"
	},
	"fileInfo":	{
		"name":	"LOAD00000001",
		"extension":	"csv.gz",
		"location":	"cubic/ods_qlik/EDW.SAMPLE",
		"startWriteTimestamp":	"2022-01-01T20:40:20.000",
		"endWriteTimestamp":	"2022-01-01T20:40:21.000",
		"firstTransactionTimestamp":	null,
		"lastTransactionTimestamp":	null,
		"content":	"data",
		"recordCount":	6,
		"errorCount":	0
	},
	"formatInfo":	{
		"format":	"delimited",
		"options":	{
			"fieldDelimiter":	",",
			"recordDelimiter":	"\n",
			"nullValue":	"",
			"quoteChar":	"\"",
			"escapeChar":	""
		}
	},
	"dataInfo":	{
		"sourceSchema":	"EDW",
		"sourceTable":	"SAMPLE",
		"targetSchema":	"EDW",
		"targetTable":	"SAMPLE",
		"tableVersion":	0,
		"columns":	[
			{ "ordinal":	1, "name":	"SAMPLE_ID", "type":	"INT8", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	1 },
			{ "ordinal":	2, "name":	"SAMPLE_NAME", "type":	"STRING", "length":	120, "precision":	0, "scale":	0, "primaryKeyPos":	0 },
			{ "ordinal":	3, "name":	"STATION_COUNT", "type":	"INT4", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	0 },
			{ "ordinal":	4, "name":	"FARE", "type":	"NUMERIC", "length":	0, "precision":	12, "scale":	4, "primaryKeyPos":	0 },
			{ "ordinal":	5, "name":	"RATIO", "type":	"REAL8", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	0 },
			{ "ordinal":	6, "name":	"IS_ACTIVE", "type":	"BOOLEAN", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	0 },
			{ "ordinal":	7, "name":	"OPENED_ON", "type":	"DATE", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	0 },
			{ "ordinal":	8, "name":	"OPENS_AT", "type":	"TIME", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	0 },
			{ "ordinal":	9, "name":	"EDW_INSERTED_DTM", "type":	"DATETIME", "length":	0, "precision":	0, "scale":	7, "primaryKeyPos":	0 }
		]
	}
}
