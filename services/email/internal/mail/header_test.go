package mail_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	type a = mail.Address
	for _, c := range []struct {
		in   string
		want []a
	}{
		{"a@x.com", []a{{"a@x.com", ""}}},
		{"<a@x.com>", []a{{"a@x.com", ""}}},
		{"Ann <a@x.com>", []a{{"a@x.com", "Ann"}}},
		{`"Doe, Ann" <a@x.com>, b@x.com`, []a{{"a@x.com", "Doe, Ann"}, {"b@x.com", ""}}},
		{"Doe, Ann <a@x.com>, Roe, Bob <b@x.com>", []a{{"a@x.com", "Doe, Ann"}, {"b@x.com", "Roe, Bob"}}},
		{"Doe, Ann Mary, Dr. <a@x.com>", []a{{"a@x.com", "Doe, Ann Mary, Dr."}}},
		{`"Ann \"the\" \\ Doe" <a@x.com>`, []a{{"a@x.com", `Ann "the" \ Doe`}}},
		{"a@x.com (Ann Doe)", []a{{"a@x.com", "Ann Doe"}}},
		{"a@x.com (Ann (nested) Doe), b@x.com", []a{{"a@x.com", "Ann (nested) Doe"}, {"b@x.com", ""}}},
		{"Ann (comment) <a@x.com>", []a{{"a@x.com", "Ann"}}},
		{"=?utf-8?q?J=C3=B6rg_M=2C?= <a@x.com>", []a{{"a@x.com", "Jörg M"}}},
		{`"=?utf-8?b?SsO2cmc=?=" <a@x.com>`, []a{{"a@x.com", "Jörg"}}},
		{"=?utf-8?q?J=C3?= =?utf-8?q?=B6rg?= <a@x.com>", []a{{"a@x.com", "Jörg"}}},
		{"=?iso-8859-1?q?Doe=2C_J=F6rg?= <a@x.com>, b@x.com", []a{{"a@x.com", "Doe, Jörg"}, {"b@x.com", ""}}},
		{"=?utf-8?q?Ann_=3Ca=40x=2Ecom=3E?=", []a{{"a@x.com", "Ann"}}},
		{"Ann <=?utf-8?q?a=40x=2Ecom?=>", []a{{"a@x.com", "Ann"}}},
		{"a@x.com (=?utf-8?q?J=C3=B6rg?=)", []a{{"a@x.com", "Jörg"}}},
		{"Jörg <jörg@exämple.com>", []a{{"jörg@exämple.com", "Jörg"}}},
		{"undisclosed-recipients:;", nil},
		{"undisclosed recipients: ;", nil},
		{"Friends: Ann <a@x.com>, b@x.com;, c@x.com", []a{{"a@x.com", "Ann"}, {"b@x.com", ""}, {"c@x.com", ""}}},
		{"A:a@x.com;B:b@x.com;", []a{{"a@x.com", ""}, {"b@x.com", ""}}},
		{"a@x.com; b@x.com; Ann <c@x.com>", []a{{"a@x.com", ""}, {"b@x.com", ""}, {"c@x.com", "Ann"}}},
		{"Bob <b@x.com> Ann <a@x.com>", []a{{"b@x.com", "Bob"}, {"a@x.com", "Ann"}}},
		{"a@x.com b@x.com", []a{{"a@x.com", ""}, {"b@x.com", ""}}},
		{"<a@x.com> <b@x.com>", []a{{"a@x.com", ""}, {"b@x.com", ""}}},
		{"<a@x.com>,,<b@x.com>,", []a{{"a@x.com", ""}, {"b@x.com", ""}}},
		{"<@r1,@r2:a@x.com>", []a{{"a@x.com", ""}}},
		{"a @ x.com", []a{{"a@x.com", ""}}},
		{"Ann <a @ x . com>", []a{{"a@x.com", "Ann"}}},
		{`"john doe"@x.com`, []a{{`"john doe"@x.com`, ""}}},
		{`Ann <"a>b"@x.com>`, []a{{`"a>b"@x.com`, "Ann"}}},
		{"Ann <a@[192.0.2.1]>", []a{{"a@[192.0.2.1]", "Ann"}}},
		{"a@[IPv6:2001:db8::1], b@x.com", []a{{"a@[IPv6:2001:db8::1]", ""}, {"b@x.com", ""}}},
		{"Ann <a@x.com", []a{{"a@x.com", "Ann"}}},
		{"Ann <a@x.com, Bob <b@x.com>", []a{{"a@x.com", "Ann"}, {"b@x.com", "Bob"}}},
		{`"Ann <a@x.com>, Bob <b@x.com>`, []a{{"a@x.com", "Ann"}, {"b@x.com", "Bob"}}},
		{`"Ann <a@x.com>, "Bob" <b@x.com>`, []a{{"a@x.com", "Ann"}, {"b@x.com", "Bob"}}},
		{"Ann <Annie> <a@x.com>", []a{{"a@x.com", "Ann Annie"}}},
		{"'Ann' <a@x.com>", []a{{"a@x.com", "Ann"}}},
		{"mailto:a@x.com", []a{{"a@x.com", ""}}},
		{"<mailto:a@x.com>", []a{{"a@x.com", ""}}},
		{"Mail System <MAILER-DAEMON>", []a{{"MAILER-DAEMON", "Mail System"}}},
		{"root, a@x.com", []a{{"a@x.com", ""}}},
		{"Ann Doe", nil},
		{"", nil},
		{"<>", nil},
		{"@", nil},
		{"a@", nil},
		{strings.Repeat("a", 400) + "@x.com, b@x.com", []a{{"b@x.com", ""}}},
	} {
		require.Equal(t, c.want, mail.ParseAddressList(c.in), "%s", c.in)
	}
}

func TestAddressesOfAMail(t *testing.T) {
	t.Parallel()
	m := parse("From: J\xf6rg <a@x.com>", "To: Ann", " <b@x.com>,", "\tc@x.com", "To: d@x.com", "Cc: nobody", "Sender: s@x.com", "Reply-To: r@x.com", "", "hi")
	require.Equal(t, []mail.Address{{Address: "a@x.com", Name: "Jörg"}}, m.From)
	require.Equal(t, []mail.Address{{Address: "b@x.com", Name: "Ann"}, {Address: "c@x.com"}, {Address: "d@x.com"}}, m.To)
	require.Empty(t, m.Cc)
	require.Equal(t, "s@x.com", m.Sender[0].Address)
	require.Equal(t, "r@x.com", m.ReplyTo[0].Address)
	require.True(t, hasDefect(m, mail.DefectAddress))

	// Bytes beyond ASCII are in the charset that the mail says.
	m = parse("From: \xea\xcf\xdf <a@x.com>", "Content-Type: text/plain; charset=koi8-r", "", "\xea\xcf\xdf")
	require.Equal(t, "Йоъ", m.From[0].Name)
	require.Equal(t, "Йоъ", m.Text)

	m = parse("To: "+strings.Repeat("a@x.com,\n ", mail.MaxAddresses+5), "", "hi")
	require.Len(t, m.To, mail.MaxAddresses)
	require.True(t, hasDefect(m, mail.DefectAddresses))
}

func TestSubject(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Hello":                                   "Hello",
		"  Hello\n\t world ":                      "Hello world",
		"=?utf-8?q?Gr=C3=BC=C3=9Fe?=":             "Grüße",
		"=?UTF-8?B?R3LDvMOfZQ==?= aus Bonn":       "Grüße aus Bonn",
		"=?utf-8?B?R3LDvA?= =?utf-8?B?w59l?=":     "Grüße",
		"=?utf-8?B?R3LD?=\n =?utf-8?B?vMOfZQ==?=": "Grüße",
		"=?utf-8?q?a?= b =?utf-8?q?c?=":           "a b c",
		"=?utf-8?q?a?= =?iso-8859-1?q?=FC?=":      "aü",
		"Re:=?utf-8?q?a?=x":                       "Re:ax",
		"=?utf-8?q?with space?=":                  "with space",
		"=?utf-8?q?cut off":                       "cut off",
		"=?utf-8?q?cut =?utf-8?q?off?=":           "cutoff",
		"=?utf-8*en?q?a_b?=":                      "a b",
		"=?UTF-8? Q?a?=":                          "a",
		"=?windows-1252?q?=93a=94?=":              "“a”",
		"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=":      "日本",
		"=?gb2312?B?xOO6ww==?=":                   "你好",
		"=?x-nobody-knows?q?=FC?=":                "ü",
		"=?utf-8?q?=FC?=":                         "ü",
		"=?utf-8?x?a?=":                           "=?utf-8?x?a?=",
		"=? =??= =?=":                             "=? =??= =?=",
		"a =?":                                    "a =?",
		"Gr\xfc\xdfe":                             "Grüße",
		"Grüße":                                   "Grüße",
		"a\x00b\x01c":                             "ab c",
		"=?utf-8?q?a=00b=0D=0AX:_y?=":             "ab  X: y",
	} {
		require.Equal(t, want, parse("Subject: "+in, "From: a@x.com", "", "hi").Subject, "%q", in)
	}
	require.Equal(t, "Grüße", mail.DecodeHeader("=?utf-8?q?Gr=C3=BC=C3=9Fe?="))
}

func TestMessageIDs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"<a@x>", []string{"a@x"}},
		{"<a@x> <b@x>\t<a@x>", []string{"a@x", "b@x"}},
		{"<a@x><b@x>", []string{"a@x", "b@x"}},
		{"<a@x>,<b@x>, <c@x>", []string{"a@x", "b@x", "c@x"}},
		{"a@x b@x", []string{"a@x", "b@x"}},
		{"a@x, b@x;", []string{"a@x", "b@x"}},
		{"<<a@x>>", []string{"a@x"}},
		{"<a@x", []string{"a@x"}},
		{"<a@x <b@x>", []string{"a@x", "b@x"}},
		{"< a@ x >", []string{"a@x"}},
		{`"<a@x>"`, []string{"a@x"}},
		{"<no-at-sign>", []string{"no-at-sign"}},
		{"<a@x> (comment) <b@x>", []string{"a@x", "b@x"}},
		{"<a@x>; from ann@y.com on Mon, 26 Aug 2002", []string{"a@x"}},
		{`Your message of "Mon, 26 Aug 2002 15:54:10 -0700." <a@x>`, []string{"a@x"}},
		{`Message from Robert Elz <kre@munnari.OZ.AU> of "Thu, 22 Aug 2002 18:26:25 +0700." <a@x>`, []string{"a@x"}},
		{`Message from ann@y.com of "Wed, 21 Aug 2002." <a@x>`, []string{"a@x"}},
		{"Message from ann@y.com of Monday", nil},
		{"Your message of Monday", nil},
		{"<>", nil},
		{"", nil},
		{"<" + strings.Repeat("a", 999) + "@x> <b@x>", []string{"b@x"}},
	} {
		require.Equal(t, c.want, mail.ParseMessageIDs(c.in), "%s", c.in)
	}
}

func TestThreadOfAMail(t *testing.T) {
	t.Parallel()
	m := parse("Message-ID: <m@x>", "In-Reply-To: <p@x> <q@x>", "References: <a@x>", " <b@x> garbage", "\t<c@", " x>", "", "hi")
	require.Equal(t, "m@x", m.MessageID)
	require.False(t, m.MessageIDDerived)
	require.Equal(t, "p@x", m.InReplyTo)
	require.Equal(t, []string{"a@x", "b@x", "c@x"}, m.References)

	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "<%d@x>\n ", i)
	}
	m = parse("Message-ID: word", "References: "+many.String(), "", "hi")
	require.Equal(t, "word", m.MessageID)
	require.Len(t, m.References, mail.MaxReferences)
	require.Equal(t, "0@x", m.References[0])
	require.Equal(t, "401@x", m.References[1])
	require.Equal(t, "499@x", m.References[99])
	require.True(t, hasDefect(m, mail.DefectReferences))
}

func TestDerivedMessageID(t *testing.T) {
	t.Parallel()
	authored := []string{"From: a@x.com", "To: b@x.com", "Subject: Hello\n there", "Date: Mon, 26 Aug 2002 15:54:10 -0700", "", "some text", "more", ""}
	base := parse(authored...)
	require.True(t, base.MessageIDDerived)
	require.True(t, strings.HasSuffix(base.MessageID, "@derived.invalid"), base.MessageID)

	traced := append([]string{"Return-Path: <a@x.com>", "Delivered-To: b@x.com", "Received: from y by z; Mon, 26 Aug 2002", "X-Spam: no", "Authentication-Results: z; spf=pass"}, authored...)
	require.Equal(t, base.MessageID, parse(traced...).MessageID, "what relays write does not count")
	crlf := strings.ReplaceAll(strings.Join(traced, "\n")+"\n\n", "\n", "\r\n")
	require.Equal(t, base.MessageID, mail.Parse([]byte(crlf), mail.Limits{}).MessageID, "ends of lines do not count")

	for i, line := range authored {
		if line == "" {
			continue
		}
		other := append([]string(nil), authored...)
		other[i] += "x"
		require.NotEqual(t, base.MessageID, parse(other...).MessageID, "%s", line)
	}
	require.NotEmpty(t, mail.Parse(nil, mail.Limits{}).MessageID)
	require.True(t, parse("Message-ID: <>", "", "hi").MessageIDDerived)
}

func TestDates(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Thu, 22 Aug 2002 18:26:25 +0700":             "2002-08-22T18:26:25+07:00",
		"Thu, 22 Aug 2002 18:26 +0700":                "2002-08-22T18:26:00+07:00",
		"22 Aug 2002 18:26:25 GMT":                    "2002-08-22T18:26:25Z",
		"Thu, 22 Aug 2002 18:26:25 EDT":               "2002-08-22T18:26:25-04:00",
		"Thu, 22 Aug 2002 18:26:25 PST":               "2002-08-22T18:26:25-08:00",
		"Thu, 22 Aug 2002 18:26:25 A":                 "2002-08-22T18:26:25Z",
		"Thu, 22 Aug 2002 18:26:25 Nowhere":           "2002-08-22T18:26:25Z",
		"Thu, 22 Aug 2002 18:26:25 +0200 (CEST)":      "2002-08-22T18:26:25+02:00",
		"Thu, 22 Aug 2002 18:26:25 CEST":              "2002-08-22T18:26:25+02:00",
		"Thu, 22 Aug 2002 18:26:25 +02:00":            "2002-08-22T18:26:25+02:00",
		"Thu, 22 Aug 2002 18:26:25 GMT+0200":          "2002-08-22T18:26:25+02:00",
		"Thu, 22 Aug 2002 18:26:25 -0000":             "2002-08-22T18:26:25Z",
		"Thu, 22 Aug 2002 18:26:25":                   "2002-08-22T18:26:25Z",
		"Thu (x), 22 (y) Aug 2002 18:26:25 +0000":     "2002-08-22T18:26:25Z",
		"Fri, 22 August 2002 18:26:25 UT":             "2002-08-22T18:26:25Z",
		"22 Aug 02 18:26:25 +0000":                    "2002-08-22T18:26:25Z",
		"22 Aug 97 18:26:25 +0000":                    "1997-08-22T18:26:25Z",
		"Thu, 22 Aug 102 18:26:25 +0000":              "2002-08-22T18:26:25Z",
		"22-Aug-2002 18:26:25 +0000":                  "2002-08-22T18:26:25Z",
		"Thu Aug 22 18:26:25 2002":                    "2002-08-22T18:26:25Z",
		"Thu Aug 22 18:26:25 EST 2002":                "2002-08-22T18:26:25-05:00",
		"2002-10-08T03:31:00+01:00":                   "2002-10-08T03:31:00+01:00",
		"2002-10-08T03:31:00.25Z":                     "2002-10-08T03:31:00.25Z",
		"2002-10-08 03:31:00 -0700":                   "2002-10-08T03:31:00-07:00",
		"Thu, 22 Aug 2002 6:26:25 PM":                 "2002-08-22T18:26:25Z",
		"Thu, 22 Aug 2002 12:26:25AM -0500":           "2002-08-22T00:26:25-05:00",
		"Thu, 22 Aug 2002 18.26.25 +0000":             "2002-08-22T18:26:25Z",
		"Thu, 31 Dec 2016 23:59:60 +0000":             "2016-12-31T23:59:59Z",
		"29 Feb 2004 00:00:00 +0000":                  "2004-02-29T00:00:00Z",
		"29 Feb 2003 00:00:00 +0000":                  "",
		"31 Jun 2003 00:00:00 +0000":                  "",
		"Thu, 22 Aug 2002 25:00:00 +0000":             "",
		"Thu, 22 Aug 1969 00:00:00 +0000":             "",
		"Not supplied":                                "",
		"":                                            "",
		"99999999999999999999":                        "",
		"Thu, 22 Aug 99999 00:00:00 +0000":            "",
		strings.Repeat("1 ", 5000) + "Aug 2002 00:00": "",
	} {
		got, ok := mail.ParseDate(in)
		require.Equal(t, want != "", ok, "%s gave %s", in, got)
		if ok {
			require.Equal(t, want, got.Format(time.RFC3339Nano), "%s", in)
		}
	}
	m := parse("From: a@x.com", "Date: Not supplied", "", "hi")
	require.True(t, m.Date.IsZero())
	require.True(t, hasDefect(m, mail.DefectDate))
}

func TestEnvelopeOfAMail(t *testing.T) {
	t.Parallel()
	m := parse("Return-Path: <bounce@x.com>", "Delivered-To: inbox+c-7@y.com", "Received: from a", "X-Original-To: help@y.com", "Received: from b",
		"Delivered-To: help@y.com", "Authentication-Results: mx.y.com;", "\tspf=pass", "Authentication-Results: other; dkim=fail", "To: someone@z.com", "X-Own: one", "x-own: =?utf-8?q?two?=", "", "hi")
	require.Equal(t, []string{"inbox+c-7@y.com", "help@y.com"}, m.EnvelopeRecipients)
	require.Equal(t, "bounce@x.com", m.ReturnPath)
	require.False(t, m.NullReturnPath)
	require.Equal(t, 2, m.Received)
	require.Equal(t, []string{"mx.y.com; spf=pass", "other; dkim=fail"}, m.AuthenticationResults)
	require.Equal(t, "one", m.Header("X-OWN"))
	require.Equal(t, []string{"one", "=?utf-8?q?two?="}, m.HeaderValues("X-Own"))
	require.Empty(t, m.Header("X-None"))
	require.Empty(t, m.HeaderValues("X-None"))
	require.True(t, parse("Return-Path: <>", "From: a@x.com", "", "").NullReturnPath)
}

func TestHeaderBlock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, raw, subject, text string
		defects                  []mail.DefectCode
	}{
		{"lf", "From: a@x.com\nSubject: s\n\ntext\n", "s", "text\n", nil},
		{"crlf", "From: a@x.com\r\nSubject: s\r\n\r\ntext\r\n", "s", "text\n", nil},
		{"mixed", "From: a@x.com\r\nSubject: s\n\r\ntext\r\nmore\rlast\n", "s", "text\nmore\nlast\n", nil},
		{"doubled cr", "From: a@x.com\r\r\nSubject: s\r\r\n\r\r\ntext\r\r\n", "s", "text\n", nil},
		{"cr", "From: a@x.com\rSubject: s\r\rtext\rmore", "s", "text\nmore", []mail.DefectCode{mail.DefectBareCR}},
		{"bom", "\xef\xbb\xbfSubject: s\n\ntext", "s", "text", []mail.DefectCode{mail.DefectBOM}},
		{"mbox", "From a@x.com Mon Aug 26 15:54:10 2002\nSubject: s\n\ntext", "s", "text", []mail.DefectCode{mail.DefectMbox}},
		{"leading empty lines", "\n\r\nSubject: s\n\ntext", "s", "text", nil},
		{"empty", "", "", "", []mail.DefectCode{mail.DefectEmpty}},
		{"white", " \r\n\r\n", "", "", []mail.DefectCode{mail.DefectEmpty}},
		{"only header", "Subject: s\nFrom: a@x.com", "s", "", nil},
		{"only body", "Hello,\n\nplease call.\n", "", "Hello,\n\nplease call.\n", []mail.DefectCode{mail.DefectNoHeader}},
		{"body that looks like a header", "Note: call me\n\nsoon", "", "Note: call me\n\nsoon", []mail.DefectCode{mail.DefectNoHeader}},
		{"empty header", "\ntext", "", "text", []mail.DefectCode{mail.DefectNoHeader}},
		{"space before colon", "Subject : s\n\ntext", "s", "text", nil},
		{"no space behind colon", "Subject:s\n\ntext", "s", "text", nil},
		{"no empty line", "Subject: s\nHello,\nhow are you?\n", "s", "Hello,\nhow are you?\n", []mail.DefectCode{mail.DefectHeaderEnd}},
		{"lost indentation", "Subject: one\ntwo\nFrom: a@x.com\n\ntext", "one two", "text", []mail.DefectCode{mail.DefectHeaderLine}},
		{"indented first", "  Subject: s\nFrom: a@x.com\n\ntext", "s", "text", []mail.DefectCode{mail.DefectHeaderLine}},
		{"twice", "Subject: s\nSubject: t\n\ntext", "s", "text", []mail.DefectCode{mail.DefectDuplicate}},
		{"nul", "Subject: a\x00b\n\nte\x00xt", "ab", "text", []mail.DefectCode{mail.DefectNUL, mail.DefectNUL}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := mail.Parse([]byte(c.raw), mail.Limits{})
			require.Equal(t, c.subject, m.Subject)
			require.Equal(t, c.text, m.Text)
			require.Equal(t, c.defects, codes(m))
		})
	}
}
