package cloudevents_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event/cloudevents"
)

func full() *cloudevents.CloudEvent {
	return &cloudevents.CloudEvent{
		ID: "A234-1234-1234", Source: "https://github.com/cloudevents/spec/pull", Type: "com.github.pull_request.opened",
		Subject: "123", Time: time.Date(2018, 4, 5, 17, 31, 0, 123_456_789, time.UTC),
		DataContentType: "application/json", DataSchema: "https://example.com/schema",
		Extensions: map[string]string{"comexampleextension1": "value", "comexampleothervalue": "5"},
		Data:       []byte(`{"much":"wow"}`),
	}
}

func least() *cloudevents.CloudEvent {
	return &cloudevents.CloudEvent{ID: "1", Source: "/s", Type: "t"}
}

func TestBinaryMode(t *testing.T) {
	t.Parallel()
	header, err := cloudevents.ToHeaders(full())
	require.NoError(t, err)
	require.Equal(t, map[string][]string{
		"ce-specversion": {"1.0"}, "ce-id": {"A234-1234-1234"}, "ce-source": {"https://github.com/cloudevents/spec/pull"},
		"ce-type": {"com.github.pull_request.opened"}, "ce-subject": {"123"}, "ce-time": {"2018-04-05T17:31:00.123456789Z"},
		"ce-datacontenttype": {"application/json"}, "content-type": {"application/json"},
		"ce-dataschema": {"https://example.com/schema"}, "ce-comexampleextension1": {"value"}, "ce-comexampleothervalue": {"5"},
	}, header)
	got, err := cloudevents.FromNATS(header, full().Data)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(full(), got))

	header, err = cloudevents.ToHeaders(least())
	require.NoError(t, err)
	require.Len(t, header, 4)
	got, err = cloudevents.FromNATS(header, nil)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(least(), got))
}

// The specification's own cases, and the corners of its rules.
func TestPercentEncoding(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"Euro € 😀":       "Euro%20%E2%82%AC%20%F0%9F%98%80",
		"plain-~!#$&'()": "plain-~!#$&'()",
		`say "hi"`:       "say%20%22hi%22",
		"50%":            "50%25",
		"%41":            "%2541",
		"ä":              "%C3%A4",
		`a\b`:            `a\b`,
	} {
		e := least()
		e.Subject = value
		header, err := cloudevents.ToHeaders(e)
		require.NoError(t, err)
		require.Equal(t, []string{want}, header["ce-subject"])
		got, err := cloudevents.FromNATS(header, nil)
		require.NoError(t, err)
		require.Equal(t, value, got.Subject)
	}
	for raw, want := range map[string]string{
		"%e2%82%ac":          "€",
		"%45uro":             "Euro",
		"unencoded space":    "unencoded space",
		"  trimmed\t":        "trimmed",
		`"quoted string"`:    "quoted string",
		`"with \"escapes\""`: `with "escapes"`,
		`"%E2%82%AC"`:        "€",
		"raw €":              "raw €",
		`"`:                  `"`,
		"%2541":              "%41",
	} {
		got, err := cloudevents.FromNATS(binary("ce-subject", raw), nil)
		require.NoError(t, err, raw)
		require.Equal(t, want, got.Subject)
	}
	for _, raw := range []string{"%", "%4", "%zz", "a%", "%ff", "%C3%28", "%C0%A0", "%ED%A0%80", "%00", "%0A"} {
		_, err := cloudevents.FromNATS(binary("ce-subject", raw), nil)
		requireMalformed(t, err, "subject")
	}
}

func binary(pairs ...string) map[string][]string {
	header := map[string][]string{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}, "ce-type": {"t"}}
	for i := 0; i < len(pairs); i += 2 {
		header[pairs[i]] = []string{pairs[i+1]}
	}
	return header
}

func requireMalformed(t *testing.T, err error, attribute string) {
	t.Helper()
	var malformed *cloudevents.MalformedError
	require.ErrorAs(t, err, &malformed)
	require.Equal(t, attribute, malformed.Attribute, malformed.Reason)
}

func TestHeadersInOtherSpellings(t *testing.T) {
	t.Parallel()
	got, err := cloudevents.FromNATS(map[string][]string{
		"Ce-Specversion": {"1.0"}, "CE-ID": {"1"}, "ce-Source": {"/s"}, "Ce-Type": {"t"}, "Ce-Myext": {"x"},
		"Content-Type": {"text/plain"}, "Nats-Msg-Id": {"1", "2"}, "X-Other": {"%"},
	}, []byte("hello"))
	require.NoError(t, err)
	require.Equal(t, &cloudevents.CloudEvent{
		ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain", Extensions: map[string]string{"myext": "x"}, Data: []byte("hello"),
	}, got)
	got, err = cloudevents.FromNATS(binary("content-type", "text/plain", "ce-datacontenttype", "text/html"), []byte("x"))
	require.NoError(t, err)
	require.Equal(t, "text/html", got.DataContentType, "the binding's own header goes first")
}

// A CloudEvent can be the data of another one.
func TestDataThatIsACloudEvent(t *testing.T) {
	t.Parallel()
	e := least()
	e.DataContentType, e.Data = "application/cloudevents+json", []byte("{}")
	header, err := cloudevents.ToHeaders(e)
	require.NoError(t, err)
	got, err := cloudevents.FromNATS(header, e.Data)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(e, got))
}

func TestMalformedBinary(t *testing.T) {
	t.Parallel()
	without := func(name string) map[string][]string {
		header := binary()
		delete(header, name)
		return header
	}
	twice := binary()
	twice["Ce-Id"] = []string{"2"}
	listed := binary()
	listed["ce-id"] = []string{"1", "2"}
	for name, c := range map[string]struct {
		header    map[string][]string
		attribute string
	}{
		"no id":             {without("ce-id"), "id"},
		"no source":         {without("ce-source"), "source"},
		"no type":           {without("ce-type"), "type"},
		"no specversion":    {without("ce-specversion"), "specversion"},
		"empty id":          {binary("ce-id", ""), "id"},
		"other specversion": {binary("ce-specversion", "0.3"), "specversion"},
		"bad time":          {binary("ce-time", "yesterday"), "time"},
		"time of no day":    {binary("ce-time", "2018-13-05T17:31:00Z"), "time"},
		"bad source":        {binary("ce-source", "a%20b"), "source"},
		"bad reference":     {binary("ce-source", ":"), "source"},
		"bad schema":        {binary("ce-dataschema", "a%20b"), "dataschema"},
		"bad name":          {binary("ce-my_ext", "x"), "my_ext"},
		"empty name":        {binary("ce-", "x"), ""},
		"data as attribute": {binary("ce-data", "x"), "data"},
		"id twice":          {twice, "id"},
		"id listed":         {listed, "id"},
		"batch":             {map[string][]string{"content-type": {"application/cloudevents-batch+json"}}, ""},
		"other format":      {map[string][]string{"content-type": {"application/cloudevents+avro"}}, ""},
		"too long":          {binary("ce-subject", strings.Repeat("x", 8193)), "subject"},
		"noncharacter":      {binary("ce-subject", "%EF%BF%BF"), "subject"},
		"control":           {binary("ce-subject", "a\u0085b"), "subject"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := cloudevents.FromNATS(c.header, []byte("{}"))
			requireMalformed(t, err, c.attribute)
		})
	}
	many := binary()
	for i := range 200 {
		many["ce-x"+strings.Repeat("a", i%50)+string(rune('a'+i/50))] = []string{"v"}
	}
	_, err := cloudevents.FromNATS(many, nil)
	requireMalformed(t, err, "")
}

func TestStructuredMode(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]*cloudevents.CloudEvent{
		"full":                  full(),
		"least":                 least(),
		"text":                  {ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain; charset=utf-8", Data: []byte("<a> & \"b\" €")},
		"bytes":                 {ID: "1", Source: "/s", Type: "t", DataContentType: "application/protobuf", Data: []byte{0, 1, 0xff}},
		"+json":                 {ID: "1", Source: "/s", Type: "t", DataContentType: "application/geo+json", Data: []byte(`[1,"<",null]`)},
		"json string":           {ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(`"text"`)},
		"text that is no UTF-8": {ID: "1", Source: "/s", Type: "t", DataContentType: "text/plain", Data: []byte{0xff}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := cloudevents.FormatJSON(e)
			require.NoError(t, err)
			got, err := cloudevents.ParseJSON(b)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(e, got), string(b))
			for _, contentType := range []string{
				"application/cloudevents+json", "application/cloudevents+json; charset=UTF-8", "application/cloudevents", "APPLICATION/CloudEvents+JSON",
			} {
				got, err = cloudevents.FromNATS(map[string][]string{"Content-Type": {contentType}}, b)
				require.NoError(t, err, contentType)
				require.Empty(t, cmp.Diff(e, got))
			}
			got, err = cloudevents.FromNATS(nil, b)
			require.NoError(t, err, "the older binding has no headers")
			require.Empty(t, cmp.Diff(e, got))
		})
	}
}

// The examples of the JSON event format.
func TestJSONFormatExamples(t *testing.T) {
	t.Parallel()
	at := time.Date(2018, 4, 5, 17, 31, 0, 0, time.UTC)
	extensions := map[string]string{"comexampleextension1": "value", "comexampleothervalue": "5"}
	for name, c := range map[string]struct {
		text string
		want *cloudevents.CloudEvent
	}{
		"object": {
			`{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","id":"C234-1234-1234","time":"2018-04-05T17:31:00Z",
			"comexampleextension1":"value","comexampleothervalue":5,"datacontenttype":"application/json",
			"data":{"appinfoA":"abc","appinfoB":123,"appinfoC":true}}`,
			&cloudevents.CloudEvent{
				ID: "C234-1234-1234", Source: "/mycontext", Type: "com.example.someevent", Time: at, Extensions: extensions,
				DataContentType: "application/json", Data: []byte(`{"appinfoA":"abc","appinfoB":123,"appinfoC":true}`),
			},
		},
		"no data, null and booleans": {
			`{"specversion":"1.0","type":"t","source":"/s","id":"1","unsetextension":null,"subject":null,"data":null,"flag":true}`,
			&cloudevents.CloudEvent{ID: "1", Source: "/s", Type: "t", Extensions: map[string]string{"flag": "true"}},
		},
		"text": {
			`{"specversion":"1.0","type":"t","source":"/s","id":"1","datacontenttype":"application/xml","data":"<much wow=\"xml\"/>"}`,
			&cloudevents.CloudEvent{ID: "1", Source: "/s", Type: "t", DataContentType: "application/xml", Data: []byte(`<much wow="xml"/>`)},
		},
		"base64": {
			`{"specversion":"1.0","type":"t","source":"/s","id":"1","datacontenttype":"application/vnd.apache.thrift.binary","data_base64":"aGk="}`,
			&cloudevents.CloudEvent{ID: "1", Source: "/s", Type: "t", DataContentType: "application/vnd.apache.thrift.binary", Data: []byte("hi")},
		},
		"no media type is JSON": {
			`{"specversion":"1.0","type":"t","source":"/s","id":"1","data":"hello"}`,
			&cloudevents.CloudEvent{ID: "1", Source: "/s", Type: "t", DataContentType: "application/json", Data: []byte(`"hello"`)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := cloudevents.ParseJSON([]byte(c.text))
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(c.want, got))
		})
	}
}

func TestMalformedJSON(t *testing.T) {
	t.Parallel()
	const head = `{"specversion":"1.0","type":"t","source":"/s","id":"1"`
	for text, attribute := range map[string]string{
		``: "", `[]`: "", `{`: "", `"x"`: "", `null`: "", head: "", head + `}{}`: "", head + `} x`: "", "\xff": "",
		`{"type":"t","source":"/s","id":"1"}`:                    "specversion",
		`{"specversion":null,"type":"t","source":"/s","id":"1"}`: "specversion",
		`{"specversion":"1.0","type":"t","source":"/s","id":1}`:  "id",
		`{"specversion":"1.0","type":"t","source":"/s","id":""}`: "id",
		`{"specversion":1.0,"type":"t","source":"/s","id":"1"}`:  "specversion",
		head + `,"id":"2"}`:                  "id",
		head + `,"ext":1.5}`:                 "ext",
		head + `,"ext":2147483648}`:          "ext",
		head + `,"ext":{}}`:                  "ext",
		head + `,"Ext":"x"}`:                 "Ext",
		head + `,"subject":true}`:            "subject",
		head + `,"data":1,"data_base64":""}`: "data",
		head + `,"data_base64":"%%"}`:        "data_base64",
		head + `,"data_base64":5}`:           "data_base64",
		head + `,"time":"2018"}`:             "time",
		head + `,"subject":"\u0000"}`:        "subject",
		head + `,"subject":"\ud800"`:         "",
	} {
		_, err := cloudevents.ParseJSON([]byte(text))
		requireMalformed(t, err, attribute)
	}
	broken := full()
	broken.Data = []byte("{")
	_, err := cloudevents.FormatJSON(broken)
	requireMalformed(t, err, "data")
}

// Reasons go into quarantine, as text.
func TestReasonsAreText(t *testing.T) {
	t.Parallel()
	for _, header := range []map[string][]string{
		binary("ce-\xff", "x"), binary("ce-specversion", "\xff"), binary("ce-time", strings.Repeat("ä", 100)),
		binary("ce-time", "a"+strings.Repeat("ä", 100)), {"content-type": {"application/cloudevents+\xff"}},
	} {
		_, err := cloudevents.FromNATS(header, nil)
		require.Error(t, err)
		require.True(t, utf8.ValidString(err.Error()), err.Error())
	}
}

func FuzzFromNATS(f *testing.F) {
	f.Add("1.0", "1", "/s", "t", "Euro%20%E2%82%AC", "2018-04-05T17:31:00Z", "text/plain", []byte("x"))
	f.Add("", "", "", "", "", "", "application/cloudevents+json", []byte(`{"specversion":"1.0","type":"t","source":"/s","id":"1","data":{}}`))
	f.Add("1.0", "\"q\\\"\"", "/%25", "t", "%", "0000-01-01T00:00:00+23:59", "", []byte{})
	f.Add("1.0", "1", "/s", "t", "x", "", "", []byte{})
	f.Fuzz(func(t *testing.T, version, id, source, typ, extension, at, contentType string, data []byte) {
		header := map[string][]string{"ce-id": {id}, "ce-source": {source}, "ce-type": {typ}, "ce-ext": {extension}}
		for name, value := range map[string]string{"ce-specversion": version, "ce-time": at, "content-type": contentType} {
			if value != "" {
				header[name] = []string{value}
			}
		}
		got, err := cloudevents.FromNATS(header, data)
		if err != nil {
			var malformed *cloudevents.MalformedError
			require.ErrorAs(t, err, &malformed)
			require.True(t, utf8.ValidString(err.Error()))
			return
		}
		again, err := cloudevents.ToHeaders(got)
		require.NoError(t, err)
		back, err := cloudevents.FromNATS(again, got.Data)
		require.NoError(t, err)
		require.True(t, sameTime(got.Time, back.Time))
		got.Time, back.Time = time.Time{}, time.Time{}
		require.Empty(t, cmp.Diff(got, back))
	})
}

func sameTime(a, b time.Time) bool { return a.Equal(b) }

func FuzzParseJSON(f *testing.F) {
	for _, e := range []*cloudevents.CloudEvent{full(), least()} {
		b, err := cloudevents.FormatJSON(e)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"specversion":"1.0","type":"t","source":"/s","id":"1","data_base64":"aGk=","x":-5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := cloudevents.ParseJSON(data)
		if err != nil {
			var malformed *cloudevents.MalformedError
			require.ErrorAs(t, err, &malformed)
			return
		}
		text, err := cloudevents.FormatJSON(got)
		var malformed *cloudevents.MalformedError
		if errors.As(err, &malformed) && malformed.Attribute == "data" {
			// Came in base64, said to be JSON, and is not.
			return
		}
		require.NoError(t, err)
		back, err := cloudevents.ParseJSON(text)
		require.NoError(t, err)
		require.Equal(t, got.ID, back.ID)
		require.Equal(t, got.Extensions, back.Extensions)
		require.True(t, sameTime(got.Time, back.Time))
	})
}
