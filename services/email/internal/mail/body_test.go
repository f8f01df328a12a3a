package mail_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/mail"
)

// withType makes a mail of a Content-Type (and further header lines) and a body.
func withType(contentType, body string) *mail.Mail {
	return parse("From: a@x.com", "Message-ID: <m@x>", "Content-Type: "+contentType, "", body)
}

func TestCharsets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		charset, in, want string
		defects           []mail.DefectCode
	}{
		{"utf-8", "Grüße", "Grüße", nil},
		{"utf-8", "Gr\xfc\xdfe", "Grüße", []mail.DefectCode{mail.DefectCharsetWrong}},
		{"utf-8", "\x93quoted\x94 \x80", "“quoted” €", []mail.DefectCode{mail.DefectCharsetWrong}},
		{"utf-8", "Grüße aus Köln, schöne Grüße \xff", "Grüße aus Köln, schöne Grüße \uFFFD", []mail.DefectCode{mail.DefectCharsetWrong, mail.DefectCharsetWrong}},
		{"us-ascii", "Grüße", "Grüße", []mail.DefectCode{mail.DefectCharsetWrong}},
		{"us-ascii", "Gr\xfc\xdfe", "Grüße", []mail.DefectCode{mail.DefectCharsetWrong}},
		{"iso-8859-1", "Gr\xfc\xdfe \x80", "Grüße €", nil},
		{"iso-8859-1", "Grüße", "Grüße", []mail.DefectCode{mail.DefectCharsetWrong}},
		{"ISO_8859-15:1998", "\xa4", "€", nil},
		{"windows-1251", "\xcf\xf0\xe8\xe2\xe5\xf2", "Привет", nil},
		{"koi8-r", "\xf0\xd2\xc9\xd7\xc5\xd4", "Привет", nil},
		{"cp850", "Gr\x81\xe1e", "Grüße", nil},
		{"gb2312", "\xc4\xe3\xba\xc3", "你好", nil},
		{"gb18030", "\xc4\xe3\xba\xc3", "你好", nil},
		{"big5", "\xa7\x41\xa6\x6e", "你好", nil},
		{"shift_jis", "\x93\xfa\x96\x7b", "日本", nil},
		{"iso-2022-jp", "\x1b$BF|K\\\x1b(B", "日本", nil},
		{"us-ascii", "\x1b$BF|K\\\x1b(B", "日本", nil},
		{"ks_c_5601-1987", "\xc7\xd1", "한", nil},
		{"x-unknown", "Gr\xfc\xdfe", "Grüße", []mail.DefectCode{mail.DefectCharsetUnknown}},
		{"x-unknown", "Grüße", "Grüße", []mail.DefectCode{mail.DefectCharsetUnknown}},
		{"x-unknown", "plain", "plain", []mail.DefectCode{mail.DefectCharsetUnknown}},
		{"", "Gr\xfc\xdfe", "Grüße", []mail.DefectCode{mail.DefectCharsetMissing}},
		{"", "Grüße", "Grüße", []mail.DefectCode{mail.DefectCharsetMissing}},
		{"charset=utf-8", "Grüße", "Grüße", nil},
		{"us-ascii", "\xef\xbb\xbfGrüße", "Grüße", nil},
	} {
		m := withType(`text/plain; charset="`+c.charset+`"`, c.in)
		require.Equal(t, c.want, m.Text, "%s %q", c.charset, c.in)
		require.Equal(t, c.defects, codes(m), "%s %q", c.charset, c.in)
	}
	m := withType("text/plain; charset=utf-16\nContent-Transfer-Encoding: base64", base64.StdEncoding.EncodeToString([]byte("\xff\xfeh\x00i\x00")))
	require.Equal(t, "hi", m.Text)
	m = withType("text/html", "<meta http-equiv=content-type content=\"text/html; charset=koi8-r\"><p>\xf0\xd2\xc9")
	require.Equal(t, "При", m.Text)
	m = withType("text/plain; encoding=utf-8", "Grüße")
	require.Equal(t, "Grüße", m.Text)
	require.Empty(t, m.Defects)
}

func TestTransferEncodings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		encoding, in, want string
		defects            []mail.DefectCode
	}{
		{"7bit", "a=20b", "a=20b", nil},
		{"8BIT", "ab", "ab", nil},
		{"quoted-printable", "Gr=C3=BC=c3=9fe  \nsoft =\nbreak=20\nend=3D=", "Grüße\nsoft break \nend=", nil},
		{"Quoted-Printable (comment)", "a=3Db", "a=b", nil},
		{"quoted-printable", "a=b =XX = =\t\nend", "a=b =XX = end", []mail.DefectCode{mail.DefectQuotedPrintable}},
		{"base64", "R3LDvMOfZQ==", "Grüße", nil},
		{"base64", "R3LD\nvMOf\n  ZQ", "Grüße", nil},
		{"base64", "R3LDvMOfZQ==R3LDvMOfZQ==\n", "GrüßeGrüße", nil},
		{"base64", "R3L*DvM!OfZQ==\x00", "Grüße", []mail.DefectCode{mail.DefectBase64}},
		{"base64", "R3LDvMOfZQ==\n--\nlist footer that somebody appended to all of it", "Grüße--\nlist footer that somebody appended to all of it", []mail.DefectCode{mail.DefectEncoding}},
		{"base64", "This is plain text, it only says that it is not.", "This is plain text, it only says that it is not.", []mail.DefectCode{mail.DefectEncoding}},
		{"x-unheard-of", "text", "text", []mail.DefectCode{mail.DefectEncoding}},
		{"x-uuencode", "begin 644 t\n#86)C\n`\nend\n", "abc", nil},
	} {
		m := withType("text/plain; charset=utf-8\nContent-Transfer-Encoding: "+c.encoding, c.in)
		require.Equal(t, c.want, m.Text, "%s %q", c.encoding, c.in)
		require.Subset(t, codes(m), c.defects, "%s %q", c.encoding, c.in)
		if c.defects == nil {
			require.Empty(t, m.Defects, "%s %q", c.encoding, c.in)
		}
	}
}

func TestMultiparts(t *testing.T) {
	t.Parallel()
	const plain, htmlPart = "Content-Type: text/plain\n\nplain", "Content-Type: text/html\n\n<p>html</p>"
	for _, c := range []struct {
		name, contentType, body string
		text, html              string
		attachments             []string
		defects                 []mail.DefectCode
	}{
		{"alternative", "multipart/alternative; boundary=b", "--b\n" + plain + "\n--b\n" + htmlPart + "\n--b--\n", "plain", "<p>html</p>", nil, nil},
		{"alternative, blank plain", "multipart/alternative; boundary=b", "--b\nContent-Type: text/plain\n\n \n\n--b\n" + htmlPart + "\n--b--\n", "html", "<p>html</p>", nil, nil},
		{"alternative, html first", "multipart/alternative; boundary=b", "--b\n" + htmlPart + "\n--b\n" + plain + "\n--b--\n", "plain", "<p>html</p>", nil, nil},
		{"alternative of mixed", "multipart/alternative; boundary=b", "--b\n" + plain + "\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n" + htmlPart + "\n--c\nContent-Type: image/png; name=i.png\n\nX\n--c\n" + htmlPart + "\n--c--\n--b--\n", "plain", "<p>html</p>\n<p>html</p>", []string{"i.png"}, nil},
		{"alternative of mixed without plain", "multipart/alternative; boundary=b", "--b\nContent-Type: text/calendar\n\nBEGIN:VCALENDAR\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n" + htmlPart + "\n--c\nContent-Type: text/plain\n\nfooter\n--c--\n--b--\n", "html\nfooter", "<p>html</p>", []string{""}, nil},
		{"mixed", "multipart/mixed; boundary=b", "pre\n--b\n" + plain + "\n--b\nContent-Type: application/pdf; name=a.pdf\n\n%PDF\n--b\nContent-Type: text/plain\n\nfooter\n--b--\n", "plain\nfooter", "", []string{"a.pdf"}, nil},
		{"mixed, html then plain", "multipart/mixed; boundary=b", "--b\n" + htmlPart + "\n--b\n" + plain + "\n--b--\n", "html\nplain", "<p>html</p>", nil, nil},
		{"no header in the part", "multipart/mixed; boundary=b", "--b\n\nplain\n--b--\n", "plain", "", nil, nil},
		{"no empty line in the part", "multipart/mixed; boundary=b", "--b\nplain it is\nand more\n--b--\n", "plain it is\nand more", "", nil, nil},
		{"never closed", "multipart/mixed; boundary=b", "--b\n" + plain, "plain", "", nil, []mail.DefectCode{mail.DefectUnclosed}},
		{"inner never closed", "multipart/mixed; boundary=b", "--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n" + plain + "\n--b\nContent-Type: text/plain\n\nmore\n--b--\n", "plain\nmore", "", nil, []mail.DefectCode{mail.DefectUnclosed}},
		{"epilogue", "multipart/mixed; boundary=b", "--b\n" + plain + "\n--b--\nfooter", "plain", "", nil, []mail.DefectCode{mail.DefectEpilogue}},
		{"opened again", "multipart/mixed; boundary=b", "--b\n" + plain + "\n--b--\n--b\nContent-Type: text/plain\n\nmore\n--b--\n", "plain\nmore", "", nil, nil},
		{"boundary missing, guessed", "multipart/mixed", "--what\n" + plain + "\n--what--\n", "plain", "", nil, []mail.DefectCode{mail.DefectBoundary}},
		{"boundary wrong, guessed", "multipart/mixed; boundary=other", "text before\n--what\n" + plain + "\n--what--\n", "plain", "", nil, []mail.DefectCode{mail.DefectBoundary}},
		{"boundary missing", "multipart/mixed", "only text", "only text", "", nil, []mail.DefectCode{mail.DefectBoundary}},
		{"boundary is the start of another", "multipart/mixed; boundary=b", "--b\nContent-Type: multipart/alternative; boundary=bb\n\n--bb\n" + plain + "\n--bb\n" + htmlPart + "\n--bb--\n--b\nContent-Type: text/plain\n\nmore\n--b--\n", "plain\nmore", "<p>html</p>", nil, nil},
		{"boundary is the end of another", "multipart/mixed; boundary=bb", "--bb\nContent-Type: multipart/alternative; boundary=b\n\n--b\n" + plain + "\n--b--\n--bb--\n", "plain", "", nil, nil},
		{"inner boundary the same", "multipart/mixed; boundary=b", "--b\nContent-Type: multipart/alternative; boundary=b\n\n--b\n" + plain + "\n--b--\n", "plain", "", nil, []mail.DefectCode{mail.DefectBoundary}},
		{"boundary with spaces behind", "multipart/mixed; boundary=\"b \"", "--b  \n" + plain + "\n--b--  \n", "plain", "", nil, nil},
		{"boundary in the text", "multipart/mixed; boundary=b", "--b\nContent-Type: text/plain\n\nsee --b\n --b\n--bx\n--b--\n", "see --b\n --b\n--bx", "", nil, nil},
		{"encoded container", "multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64", "--b\n" + plain + "\n--b--\n", "plain", "", nil, nil},
		{"digest", "multipart/digest; boundary=b", "--b\n\nSubject: s\n\ntext\n--b--\n", "", "", []string{""}, nil},
		{"forwarded", "multipart/mixed; boundary=b", "--b\n" + plain + "\n--b\nContent-Type: message/rfc822; name=f.eml\n\nSubject: s\nContent-Type: multipart/mixed; boundary=b2\n\n--b2\n\nx\n--b2--\n--b--\n", "plain", "", []string{"f.eml"}, nil},
		{"no type that is one", "multipart/mixed; boundary=b", "--b\nContent-Type: nonsense\n\nplain\n--b--\n", "plain", "", nil, []mail.DefectCode{mail.DefectContentType}},
		{"named text beside a text", "multipart/mixed; boundary=b", "--b\n" + plain + "\n--b\nContent-Type: text/plain; name=log.txt\n\nlog\n--b--\n", "plain", "", []string{"log.txt"}, nil},
		{"named text alone", "multipart/mixed; boundary=b", "--b\nContent-Type: text/plain; name=log.txt\n\nlog\n--b--\n", "log", "", []string{"log.txt"}, nil},
		{"other text alone", "text/x-web-intelligent", "words", "words", "", []string{""}, nil},
		{"winmail", "multipart/mixed; boundary=b", "--b\n" + plain + "\n--b\nContent-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\neJ8+\n--b--\n", "plain", "", []string{"winmail.dat"}, nil},
		{"enriched", "text/enriched", "<bold>big</bold> << words", "big < words", "", nil, nil},
		{"uuencoded", "text/plain", "before\nbegin 644 a.txt\n#86)C\n`\nend\nafter\n", "before\nafter\n", "", []string{"a.txt"}, nil},
		{"not uuencoded", "text/plain", "before\nbegin 644 reasons\nto call\n", "before\nbegin 644 reasons\nto call\n", "", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := withType(c.contentType, c.body)
			require.Equal(t, c.html, m.HTML)
			require.Equal(t, c.text, m.Text)
			var names []string
			for _, a := range m.Attachments {
				names = append(names, a.FileName)
			}
			require.Equal(t, c.attachments, names)
			for _, d := range c.defects {
				require.True(t, hasDefect(m, d), "%v", m.Defects)
			}
			if c.defects == nil {
				require.Empty(t, m.Defects)
			}
			// The same with CRLF.
			crlf := strings.ReplaceAll("From: a@x.com\nMessage-ID: <m@x>\nContent-Type: "+c.contentType+"\n\n"+c.body, "\n", "\r\n")
			require.Equal(t, c.text, mail.Parse([]byte(crlf), mail.Limits{}).Text)
		})
	}
}

func TestAttachments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header string
		want   mail.Attachment
	}{
		{"Content-Type: application/pdf; name=a.pdf", mail.Attachment{FileName: "a.pdf", MediaType: "application/pdf"}},
		{"Content-Type: application/pdf name=a.pdf", mail.Attachment{FileName: "a.pdf", MediaType: "application/pdf"}},
		{"Content-Type: APPLICATION/PDF; name=x\nContent-Disposition: attachment; filename=\"b c.pdf\"", mail.Attachment{FileName: "b c.pdf", MediaType: "application/pdf"}},
		{"Content-Type: image/png\nContent-Disposition: inline; filename=i.png\nContent-ID: <i@x>", mail.Attachment{FileName: "i.png", MediaType: "image/png", Inline: true, ContentID: "i@x"}},
		{"Content-Type: image/png; name=\"=?utf-8?q?Gr=C3=BC=C3=9Fe=2Epng?=\"", mail.Attachment{FileName: "Grüße.png", MediaType: "image/png"}},
		{"Content-Type: image/png\nContent-Disposition: attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.png", mail.Attachment{FileName: "Grüße.png", MediaType: "image/png"}},
		{"Content-Type: image/png\nContent-Disposition: attachment; filename=plain.png; filename*=iso-8859-1'de'Gr%FC%DFe.png", mail.Attachment{FileName: "Grüße.png", MediaType: "image/png"}},
		{"Content-Type: image/png\nContent-Disposition: attachment; filename*1*=%BC%C3%9Fe; filename*0*=utf-8''Gr%C3; filename*2=.png", mail.Attachment{FileName: "Grüße.png", MediaType: "image/png"}},
		{"Content-Type: image/png; name=Gr\xfc\xdfe.png", mail.Attachment{FileName: "Grüße.png", MediaType: "image/png"}},
		{"Content-Type: image/png; name=\"C:\\Users\\a\\b.png\"", mail.Attachment{FileName: "b.png", MediaType: "image/png"}},
		{"Content-Type: image/png; name=\"../../etc/passwd\"", mail.Attachment{FileName: "passwd", MediaType: "image/png"}},
		{"Content-Type: image/png; name=\"\"x\".png\"", mail.Attachment{FileName: "x.png", MediaType: "image/png"}},
		{"Content-Type: image/png; name=\"a;b.png\"", mail.Attachment{FileName: "a;b.png", MediaType: "image/png"}},
		{"Content-Type: image/png; name=\"open.png", mail.Attachment{FileName: "open.png", MediaType: "image/png"}},
		{"Content-Type: image/png; name=" + strings.Repeat("x", 500) + ".png", mail.Attachment{FileName: strings.Repeat("x", 251) + ".png", MediaType: "image/png"}},
		{"Content-Type: image/png/what; name=a", mail.Attachment{FileName: "a", MediaType: "image/png"}},
		{"Content-Type: ; name=a", mail.Attachment{FileName: "a", MediaType: "application/octet-stream"}},
		{"Content-Type: " + strings.Repeat("x", 200) + "/y; name=a", mail.Attachment{FileName: "a", MediaType: "application/octet-stream"}},
		{"Content-Type: text/calendar; method=REQUEST", mail.Attachment{MediaType: "text/calendar"}},
		{"Content-Disposition: attachment", mail.Attachment{MediaType: "text/plain"}},
	} {
		m := withType("multipart/mixed; boundary=b", "--b\n\nhello\n--b\n"+c.header+"\nContent-Transfer-Encoding: base64\n\nYWJj\n--b--\n")
		require.Len(t, m.Attachments, 1, "%s", c.header)
		c.want.Content = []byte("abc")
		require.Equal(t, c.want, m.Attachments[0], "%s", c.header)
		require.Equal(t, "hello", m.Text)
	}
}

func TestHTMLToText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                                     "plain",
		"<p>one</p><p>two</p>":                      "one\n\ntwo",
		"<div>one</div><div>two</div>":              "one\ntwo",
		"<div>one<br></div><div><br></div>two":      "one\n\ntwo",
		"one<br>two<br><br>three":                   "one\ntwo\n\nthree",
		"a<br><br><br><br><br><br>b":                "a\n\n\nb",
		"  a \n b&nbsp;&nbsp;c\u200b ":              "a b c",
		"a<b>b</b>c <i>d</i>":                       "abc d",
		"&lt;tag&gt; &amp; &euro; &#8364; &unknown": "<tag> & € € &unknown",
		"<ul><li>one<li>two</ul>after":              "- one\n- two\n\nafter",
		"<table><tr><td>a</td><td>b</td></tr><tr><th>c</th></tr></table>":             "a b\nc",
		"yes<blockquote>first<br>second<blockquote>older</blockquote></blockquote>no": "yes\n> first\n> second\n>> older\nno",
		"<blockquote type=cite><p>one</p><p>two</p></blockquote>":                     "> one\n>\n> two",
		"<blockquote>never closed":    "> never closed",
		"</blockquote>a":              "a",
		"<pre>  a\n    b\n\nc</pre>d": "  a\n    b\n\nc\nd",
		"<style>p{}</style><script>var a='<p>'</script><title>t</title><!-- c -->shown":                      "shown",
		`<a href="https://x.com/a">here</a> <a href="https://x.com/">x.com</a> <a href="mailto:a@x">a@x</a>`: "here <https://x.com/a> x.com a@x",
		"a<hr>b":                          "a\n________________________________\nb",
		"<img alt='only an image' src=x>": "[only an image]",
		"<title>never closed <p>but there is text": "never closed but there is text",
		"a < b and c > d":                          "a < b and c > d",
		"":                                         "",
		"<p></p>":                                  "",
		strings.Repeat("<blockquote>", 1000) + "deep": ">>>>>>>> deep",
	} {
		require.Equal(t, want, mail.HTMLToText(in), "%s", in[:min(len(in), 80)])
	}
}

// Tokens that are longer than what is held of them lose no text around them.
func TestHTMLOfLongTokens(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for in, want := range map[string]string{
		`a<img src="data:` + long + `">b`:         "ab",
		"a<!--" + long + "-->b":                   "ab",
		"a<style>" + long + "</STYLE>b":           "ab",
		"a<p>" + long + "</p>b":                   "a\n\n" + long + "\n\nb",
		"a<blockquote>" + long + "</blockquote>b": "a\n> " + long + "\nb",
		"a<p " + long:                             "a",
	} {
		got := mail.HTMLToText(in)
		require.Len(t, got, len(want), "%.40q", in)
		require.True(t, strings.EqualFold(want, got), "%.40q", in)
	}
}

func TestNoTextIsSaid(t *testing.T) {
	t.Parallel()
	m := withType("text/html", "<img src=x>")
	require.Empty(t, m.Text)
	require.True(t, hasDefect(m, mail.DefectNoText))
	require.Equal(t, "<img src=x>", m.HTML)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	deep := func(n int) string {
		var b strings.Builder
		b.WriteString("From: a@x.com\n")
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		b.WriteString("Content-Type: text/plain\n\nhello\n")
		return b.String()
	}
	m := mail.Parse([]byte(deep(mail.DefaultMaxDepth)), mail.Limits{})
	require.Equal(t, "hello\n", m.Text)
	require.False(t, hasDefect(m, mail.DefectTooDeep))
	m = mail.Parse([]byte(deep(mail.DefaultMaxDepth+1)), mail.Limits{})
	require.Empty(t, m.Text)
	require.True(t, hasDefect(m, mail.DefectTooDeep))
	require.Len(t, m.Attachments, 1)
	require.Contains(t, string(m.Attachments[0].Content), "hello", "what was not opened is kept")

	m = mail.Parse([]byte(deep(3)), mail.Limits{MaxDepth: 2})
	require.True(t, hasDefect(m, mail.DefectTooDeep))

	m = mail.Parse([]byte("From: a@x.com\nContent-Type: multipart/mixed; boundary=b\n\n"+strings.Repeat("--b\n\nx\n", 2000)+"--b--\n"), mail.Limits{})
	require.True(t, hasDefect(m, mail.DefectTooManyParts))
	require.Equal(t, mail.DefaultMaxParts-1, strings.Count(m.Text, "x"))

	m = mail.Parse([]byte("From: a@x.com\n\n0123456789"), mail.Limits{MaxBytes: 20})
	require.Equal(t, "01234", m.Text)
	require.True(t, hasDefect(m, mail.DefectOversize))

	// One huge field is cut; those behind it are read.
	m = mail.Parse([]byte("X-Junk: "+strings.Repeat("x", 10<<20)+"\nFrom: a@x.com\n\ntext"), mail.Limits{})
	require.Equal(t, "a@x.com", m.From[0].Address)
	require.Equal(t, "text", m.Text)
	require.True(t, hasDefect(m, mail.DefectHeaderCut))
	require.Len(t, m.Header("x-junk"), 128<<10-1) // without the space before it

	// A huge header is cut; the body behind it is read.
	m = mail.Parse([]byte("From: a@x.com\n"+strings.Repeat("X-Junk: some value\n", 100_000)+"\ntext"), mail.Limits{})
	require.Equal(t, "a@x.com", m.From[0].Address)
	require.Equal(t, "text", m.Text)
	require.True(t, hasDefect(m, mail.DefectHeaderCut))

	// Defects are bounded.
	var parts strings.Builder
	for i := range 500 {
		fmt.Fprintf(&parts, "--b\nContent-Type: text/plain; charset=unknown-%d\n\nx\n", i)
	}
	m = withType("multipart/mixed; boundary=b", parts.String())
	require.Len(t, m.Defects, mail.MaxDefects)
	require.Equal(t, 500+1-mail.MaxDefects, m.DefectsOmitted)
}
