package auth_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/auth"
)

func TestParseResults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, value, id string
		// methods as `name=value domain`.
		methods []string
		fails   bool
	}{
		{"Gmail", "mx.google.com;\r\n       dkim=pass header.i=@bank.example header.s=s1 header.b=abc;\r\n       spf=pass (google.com: domain of a@bank.example designates 192.0.2.1 as permitted sender) smtp.mailfrom=a@bank.example;\r\n       dmarc=pass (p=NONE sp=NONE dis=NONE) header.from=bank.example",
			"mx.google.com", []string{"dkim=pass bank.example", "spf=pass bank.example", "dmarc=pass bank.example"}, false},
		{"Outlook", "spf=pass", "spf=pass", nil, false},
		{"Outlook with id", "mx.x; spf=softfail (sender IP is 192.0.2.1) smtp.mailfrom=bank.example; dkim=none (message not signed) header.d=none;dmarc=bestguesspass action=none header.from=bank.example;compauth=pass reason=109",
			"mx.x", []string{"spf=softfail bank.example", "dkim=none ", "dmarc=none bank.example"}, false},
		{"no results", "mx.x 1; none", "mx.x", nil, false},
		{"other version", "mx.x 2; spf=pass smtp.mailfrom=a.example", "mx.x", nil, true},
		{"version of a method", "mx.x; spf/1=pass smtp.mailfrom=a.example; spf/2=pass smtp.mailfrom=b.example", "mx.x", []string{"spf=pass a.example"}, false},
		{"result in a comment", "mx.x; spf=fail (a; dmarc=pass header.from=bank.example) smtp.mailfrom=a.example", "mx.x", []string{"spf=fail a.example"}, false},
		{"result in a nested comment", `mx.x; spf=fail (a(\)); dmarc=pass header.from=bank.example)) smtp.mailfrom=a.example`, "mx.x", []string{"spf=fail a.example"}, false},
		{"result in a quoted string", `mx.x; spf=fail smtp.mailfrom="a; dmarc=pass header.from=bank.example"@a.example`, "mx.x", []string{"spf=fail a.example"}, false},
		{"reason", `mx.x; dkim=fail reason="bad \"key\"" header.d=a.example`, "mx.x", []string{"dkim=fail a.example"}, false},
		{"space around =", "mx.x; spf = pass smtp.mailfrom = a.example", "mx.x", []string{"spf=pass a.example"}, false},
		{"value with =", "mx.x; spf=pass smtp.mailfrom=SRS0=ab=cd=b.example=u@a.example", "mx.x", []string{"spf=pass a.example"}, false},
		{"HELO", "mx.x; spf=pass smtp.mailfrom=<> smtp.helo=a.example", "mx.x", []string{"spf=pass a.example"}, false},
		{"pass for nobody", "mx.x; spf=pass; dkim=pass header.d=none", "mx.x", nil, false},
		{"property twice", "mx.x; dkim=pass header.d=a.example header.d=b.example", "mx.x", nil, false},
		{"hardfail of old", "mx.x; spf=hardfail smtp.mailfrom=a.example", "mx.x", []string{"spf=fail a.example"}, false},
		{"comment before the id", "(c) mx.x (d); dmarc=FAIL header.from=A.Example", "mx.x", []string{"dmarc=fail a.example"}, false},
		{"comment without end", "mx.x; spf=pass (smtp.mailfrom=a.example", "mx.x", nil, true},
		{"quote without end", `mx.x; spf=pass smtp.mailfrom="a.example`, "mx.x", nil, true},
		{"empty", "", "", nil, true},
		{"too long", "mx.x; " + strings.Repeat("x=y ", 5000), "mx.x", nil, true},
		{"too many", "mx.x" + strings.Repeat("; dkim=pass header.d=a.example", 40), "mx.x", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := auth.ParseResults(tt.value)
			require.Equal(t, tt.fails, err != nil, "%v", err)
			require.Equal(t, tt.id, got.AuthservID)
			var methods []string
			for _, m := range got.Methods {
				methods = append(methods, m.Name+"="+string(m.Value)+" "+m.Domain)
			}
			require.Equal(t, tt.methods, methods)
		})
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	mail := letter("ann@bank.example")
	const ar = "Authentication-Results: "
	signed := sign(t, mail, "bank.example", edKey)
	gmail := []auth.TrustedServer{{AuthservID: "MX.google.com"}}
	tests := []struct {
		name    string
		mail    string
		trusted []auth.TrustedServer
		verdict auth.Verdict
	}{
		{"DMARC passes", ar + "mx.google.com; dmarc=pass header.from=bank.example\r\n" + mail, gmail, auth.Pass},
		{"DMARC fails", ar + "mx.google.com; dmarc=fail header.from=bank.example; spf=pass smtp.mailfrom=bank.example\r\n" + mail, gmail, auth.Fail},
		{"of another From", ar + "mx.google.com; dmarc=pass header.from=list.example\r\n" + mail, gmail, auth.None},
		{"nobody trusted", ar + "mx.google.com; dmarc=pass header.from=bank.example\r\n" + mail, nil, auth.None},
		{"another server", ar + "mx.evil.example; dmarc=pass header.from=bank.example\r\n" + mail, gmail, auth.None},
		{"forged below", ar + "mx.google.com; spf=none smtp.mailfrom=list.example\r\n" + ar + "mx.google.com; dmarc=pass header.from=bank.example\r\n" + mail, gmail, auth.None},
		{"forged below what cannot be read", ar + "mx.google.com; spf=none (\r\n" + ar + "mx.google.com; dmarc=pass header.from=bank.example\r\n" + mail, gmail, auth.None},
		{"a server of two fields", ar + "mx.google.com; spf=none smtp.mailfrom=list.example\r\n" + ar + "mx.google.com; dmarc=pass header.from=bank.example\r\n" + mail,
			[]auth.TrustedServer{{AuthservID: "mx.google.com", Fields: 2}}, auth.Pass},
		{"the worse of two", ar + "mx.google.com; dmarc=pass header.from=bank.example; dmarc=fail header.from=bank.example\r\n" + mail, gmail, auth.Fail},
		{"DKIM of the very domain", ar + "mx.google.com; dkim=pass header.d=bank.example\r\n" + mail, gmail, auth.Pass},
		{"DKIM of the organisation, record unknown", ar + "mx.google.com; dkim=pass header.d=news.bank.example\r\n" + mail, gmail, auth.None},
		{"DKIM of the organisation, no record", ar + "mx.google.com; dkim=pass header.d=news.bank.example; dmarc=none header.from=bank.example\r\n" + mail, gmail, auth.Pass},
		{"SPF hard fail", ar + "mx.google.com; spf=fail smtp.mailfrom=bank.example\r\n" + mail, gmail, auth.Fail},
		{"SPF hard fail, signature not looked at", ar + "mx.google.com; spf=fail smtp.mailfrom=bank.example\r\n" + signed, gmail, auth.None},
		{"SPF hard fail, signature failed", ar + "mx.google.com; spf=fail smtp.mailfrom=bank.example; dkim=fail header.d=bank.example\r\n" + signed, gmail, auth.Fail},
		{"two From fields", ar + "mx.google.com; dmarc=pass header.from=bank.example\r\nFrom: a@list.example\r\n" + mail, gmail, auth.Fail},
		{"nothing said", signed, gmail, auth.None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := auth.Judge(auth.Input{Raw: []byte(tt.mail), Report: auth.ReportFromHeaders([]byte(tt.mail), tt.trusted)})
			require.Equal(t, tt.verdict.String(), got.Verdict.String(), "%s: %s", got.Reason, got.Text("mx"))
		})
	}
}

func TestVendorReports(t *testing.T) {
	t.Parallel()
	spf := func(v auth.Value, domain string) *auth.Method {
		return &auth.Method{Name: "spf", Value: v, Domain: domain}
	}
	dkim := func(v auth.Value, domain string) auth.Method {
		return auth.Method{Name: "dkim", Value: v, Domain: domain}
	}
	const postmark = "Pass (sender SPF authorized) identity=mailfrom; client-ip=192.0.2.1; helo=mx.bank.example; envelope-from=ann@bank.example; receiver=x@inbound.postmarkapp.com"
	tests := []struct {
		name string
		got  auth.Report
		want auth.Report
	}{
		{"Mailgun", auth.ReportMailgun("SoftFail", "Pass"), auth.Report{SPF: spf("softfail", ""), DKIM: []auth.Method{dkim("pass", "")}}},
		{"Mailgun without", auth.ReportMailgun("", ""), auth.Report{}},
		{"Mailgun odd", auth.ReportMailgun("Yes", "No"), auth.Report{}},
		{"SendGrid", auth.ReportSendGrid("pass", "{@bank.example : pass}"), auth.Report{SPF: spf("pass", ""), DKIM: []auth.Method{dkim("pass", "bank.example")}}},
		{"SendGrid two", auth.ReportSendGrid("fail", "{@bank.example : pass, @list.example : fail}"), auth.Report{SPF: spf("fail", ""), DKIM: []auth.Method{dkim("pass", "bank.example"), dkim("fail", "list.example")}}},
		{"SendGrid none", auth.ReportSendGrid("none", "none"), auth.Report{SPF: spf("none", ""), DKIM: []auth.Method{dkim("none", "")}}},
		{"SendGrid odd", auth.ReportSendGrid("", "{@ : pass, pass, @x : , : :}"), auth.Report{}},
		{"Postmark", auth.ReportPostmark([]string{postmark, "Fail identity=mailfrom"}), auth.Report{SPF: spf("pass", "bank.example")}},
		{"Postmark HELO", auth.ReportPostmark([]string{"Fail (x; y) identity=helo; helo=mx.bank.example"}), auth.Report{SPF: &auth.Method{Name: "spf", Value: "fail", Domain: "mx.bank.example", HELO: true}}},
		{"Postmark twice the same key", auth.ReportPostmark([]string{postmark + "; envelope-from=a@list.example"}), auth.Report{}},
		{"Postmark without", auth.ReportPostmark(nil), auth.Report{}},
		{"Postmark odd", auth.ReportPostmark([]string{"(", "Pass"}), auth.Report{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, tt.got)
		})
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	inner := domains(t)
	inner.mx["bank.example"] = []string{"mx.bank.example"}
	inner.a["mx.bank.example"] = []string{"192.0.2.1"}
	inner.ptr = map[string][]string{"192.0.2.1": {"mx.bank.example."}}
	inner.fails = map[string]bool{"down.example": true}
	inner.txt["big.example"] = []string{strings.Repeat("x", 9000)}
	c := auth.NewCache(inner, func() time.Time { return now })
	ctx := context.Background()

	txt := func(name string) ([]string, error) { return c.LookupTXT(ctx, name) }
	asks := func(want int, name string) {
		t.Helper()
		before := inner.count()
		_, _ = txt(name)
		require.Equal(t, want, inner.count()-before, name)
	}
	asks(1, "bank.example")
	asks(0, "BANK.example")
	asks(1, "gone.example")
	asks(0, "gone.example")
	asks(1, "down.example")
	asks(1, "down.example")
	asks(1, "big.example")
	asks(1, "big.example")
	_, err := txt("gone.example")
	var dns *net.DNSError
	require.ErrorAs(t, err, &dns)
	require.True(t, dns.IsNotFound)

	now = now.Add(time.Minute)
	asks(0, "bank.example")
	asks(1, "gone.example")
	now = now.Add(4 * time.Minute)
	asks(1, "bank.example")

	before := inner.count()
	for range 2 {
		mx, err := c.LookupMX(ctx, "bank.example")
		require.NoError(t, err)
		require.Equal(t, "mx.bank.example", mx[0].Host)
		ips, err := c.LookupIPAddr(ctx, "mx.bank.example")
		require.NoError(t, err)
		require.Equal(t, "192.0.2.1", ips[0].String())
		hosts, err := c.LookupAddr(ctx, "192.0.2.1")
		require.NoError(t, err)
		require.Equal(t, []string{"mx.bank.example."}, hosts)
	}
	require.Equal(t, 3, inner.count()-before)

	// What is asked last pushes out what was asked first.
	for i := range 5000 {
		_, _ = txt(strings.Repeat("a", 1+i%50) + "." + strings.Repeat("b", 1+i/50%50) + "." + strings.Repeat("c", 1+i/2500) + ".example")
	}
	asks(1, "bank.example")
	asks(0, "bank.example")
}

func TestText(t *testing.T) {
	t.Parallel()
	r := auth.Result{}
	require.Equal(t, "localhost; none", r.Text("bad id\r\nX: y"))
	for range 100 {
		r.Methods = append(r.Methods, auth.Method{Name: "dkim", Value: auth.ValueFail, Domain: "bank.example", Detail: "a \"b\" \\ ü\r\n; c" + strings.Repeat("x", 200)})
	}
	text := r.Text("mx.shop.example")
	require.LessOrEqual(t, len(text), auth.MaxText)
	require.Greater(t, len(text), auth.MaxText/2)
	for _, c := range text {
		require.True(t, c >= ' ' && c < 0x7f, "%q", c)
	}
	back, err := auth.ParseResults(text)
	require.NoError(t, err)
	require.Equal(t, "mx.shop.example", back.AuthservID)
	require.NotEmpty(t, back.Methods)
	require.Equal(t, "bank.example", back.Methods[0].Domain)
}
