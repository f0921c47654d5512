{
	"dfmVersion":	"1.1",
	"taskInfo":	{
		"name":	"EDW_TO_S3",
		"sourceEndpoint":	"EDW",
		"sourceEndpointType":	"Oracle"
	},
	"fileInfo":	{
		"name":	"20220102-204950406",
		"extension":	"csv.gz",
		"location":	"cubic/ods_qlik/EDW.SAMPLE__ct",
		"startWriteTimestamp":	"2022-01-01T20:40:20.000",
		"endWriteTimestamp":	"2022-01-01T20:40:21.000",
		"firstTransactionTimestamp":	null,
		"lastTransactionTimestamp":	null,
		"content":	"data",
		"recordCount":	4,
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
		"targetTable":	"SAMPLE__ct",
		"tableVersion":	0,
		"columns":	[
			{ "ordinal":	1, "name":	"SAMPLE_ID", "type":	"INT8", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	1 },
			{ "ordinal":	2, "name":	"SAMPLE_NAME", "type":	"STRING", "length":	120, "precision":	0, "scale":	0, "primaryKeyPos":	0 },
			{ "ordinal":	3, "name":	"STATION_COUNT", "type":	"INT4", "length":	0, "precision":	0, "scale":	0, "primaryKeyPos":	0 }
		]
	}
}
