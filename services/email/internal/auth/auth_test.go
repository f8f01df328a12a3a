package auth_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/auth"
)

var (
	theirs = netip.MustParseAddr("192.0.2.10")
	other  = netip.MustParseAddr("198.51.100.1")
)

// domains is a zone of senders:
//
//	bank.example   DMARC p=reject, SPF -all, key s1
//	free.example   DMARC p=none, SPF ~all, key s1
//	tight.example  DMARC p=quarantine with strict alignment, SPF -all, key s1
//	old.example    no DMARC, SPF -all, key s1
//	soft.example   no DMARC, SPF ~all
//	list.example   no DMARC, SPF -all, key s1
//	mute.example   nothing
func domains(t testing.TB) *zone {
	key := keyRecord(t, edKey)
	z := &zone{txt: map[string][]string{
		"_dmarc.bank.example":          {"v=DMARC1; p=reject; rua=mailto:d@bank.example"},
		"_dmarc.free.example":          {"something else", "v=DMARC1;p=none; sp=quarantine"},
		"_dmarc.tight.example":         {"v=DMARC1; p=quarantine; adkim=s; aspf=s"},
		"bank.example":                 {"v=spf1 ip4:192.0.2.0/24 -all"},
		"news.bank.example":            {"v=spf1 ip4:192.0.2.0/24 -all"},
		"free.example":                 {"v=spf1 ip4:192.0.2.0/24 ~all"},
		"tight.example":                {"v=spf1 ip4:192.0.2.0/24 -all"},
		"news.tight.example":           {"v=spf1 ip4:192.0.2.0/24 -all"},
		"old.example":                  {"v=spf1 ip4:192.0.2.0/24 -all"},
		"news.old.example":             {"v=spf1 ip4:192.0.2.0/24 -all"},
		"soft.example":                 {"v=spf1 ip4:192.0.2.0/24 ~all"},
		"list.example":                 {"v=spf1 ip4:198.51.100.0/24 -all"},
		"xn--bcher-kva.example":        {"v=spf1 ip4:192.0.2.0/24 -all"},
		"_dmarc.xn--bcher-kva.example": {"v=DMARC1; p=reject"},
		"greedy.example":               {"v=spf1 " + strings.Repeat("include:greedy.example ", 12) + "-all"},
		"mxes.example":                 {"v=spf1 mx mx:m2.example mx:m3.example mx:m4.example mx:m5.example mx:m6.example -all"},
	}, mx: map[string][]string{}, a: map[string][]string{}}
	for _, d := range []string{"bank", "news.bank", "free", "tight", "news.tight", "old", "news.old", "list", "xn--bcher-kva"} {
		z.txt["s1._domainkey."+d+".example"] = []string{key}
	}
	for _, d := range []string{"mxes.example", "m2.example", "m3.example", "m4.example", "m5.example", "m6.example"} {
		for i := range 10 {
			host := fmt.Sprintf("mx%d.%s", i, d)
			z.mx[d] = append(z.mx[d], host)
			z.a[host] = []string{"203.0.113.1"}
		}
	}
	return z
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	base := domains(t)
	bank := letter("Ann <ann@bank.example>")
	old := letter("ann@old.example")
	tests := []struct {
		name     string
		zone     *zone
		mail     string
		envelope string
		helo     string
		ip       netip.Addr
		verdict  auth.Verdict
		// text is what Text says behind the name of the server.
		text string
	}{
		{name: "DKIM and SPF aligned", mail: sign(t, bank, "bank.example", edKey), envelope: "ann@bank.example", ip: theirs, verdict: auth.Pass,
			text: "dmarc=pass header.from=bank.example policy.dmarc=reject; spf=pass policy.aligned=yes smtp.mailfrom=bank.example; dkim=pass header.d=bank.example policy.aligned=yes"},
		{name: "DKIM alone, forwarded", mail: sign(t, bank, "bank.example", edKey), envelope: "srs@list.example", ip: theirs, verdict: auth.Pass,
			text: "dmarc=pass header.from=bank.example policy.dmarc=reject; spf=fail policy.aligned=no smtp.mailfrom=list.example; dkim=pass header.d=bank.example policy.aligned=yes"},
		{name: "SPF alone", mail: bank, envelope: "<ann@bank.example>", ip: theirs, verdict: auth.Pass,
			text: "dmarc=pass header.from=bank.example policy.dmarc=reject; spf=pass policy.aligned=yes smtp.mailfrom=bank.example; dkim=none"},
		{name: "SPF of HELO for the null sender", mail: bank, helo: "bank.example", ip: theirs, verdict: auth.Pass,
			text: "dmarc=pass header.from=bank.example policy.dmarc=reject; spf=pass policy.aligned=yes smtp.helo=bank.example; dkim=none"},
		{name: "body changed", mail: strings.Replace(sign(t, bank, "bank.example", edKey), "Where is it", "Pay me", 1), envelope: "x@list.example", ip: other, verdict: auth.Fail,
			text: `dmarc=fail header.from=bank.example policy.dmarc=reject; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=fail reason="body hash did not verify" header.d=bank.example policy.aligned=yes`},
		{name: "subject changed by a list", mail: strings.Replace(sign(t, bank, "bank.example", edKey), "My order", "[list] My order", 1), envelope: "x@list.example", ip: other, verdict: auth.Fail},
		{name: "From changed", mail: strings.Replace(sign(t, bank, "bank.example", edKey), "ann@bank", "bob@bank", 1), envelope: "x@list.example", ip: other, verdict: auth.Fail},
		{name: "signed by another", mail: sign(t, bank, "list.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Fail,
			text: "dmarc=fail header.from=bank.example policy.dmarc=reject; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=pass header.d=list.example policy.aligned=no"},
		{name: "another key", mail: sign(t, bank, "bank.example", edKey2), envelope: "x@list.example", ip: other, verdict: auth.Fail},
		{name: "unsigned and unaligned", mail: bank, envelope: "x@list.example", ip: other, verdict: auth.Fail},
		{name: "policy none fails too", mail: letter("ann@free.example"), envelope: "x@list.example", ip: other, verdict: auth.Fail,
			text: "dmarc=fail header.from=free.example policy.dmarc=none; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=none"},
		{name: "softfail with a DMARC record", mail: letter("ann@free.example"), envelope: "ann@free.example", ip: other, verdict: auth.Fail},
		{name: "expired signature", mail: sign(t, bank, "bank.example", edKey, expiring(time.Unix(1_000_000_000, 0))), envelope: "x@list.example", ip: other, verdict: auth.Fail,
			text: `dmarc=fail header.from=bank.example policy.dmarc=reject; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=permerror reason="signature has expired" header.d=bank.example policy.aligned=yes`},
		{name: "key is gone", mail: sign(t, bank, "bank.example", edKey, func(o *dkim.SignOptions) { o.Selector = "gone" }), envelope: "x@list.example", ip: other, verdict: auth.Fail},

		{name: "subdomain signs, relaxed", mail: sign(t, bank, "news.bank.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Pass},
		{name: "subdomain sends, relaxed", mail: bank, envelope: "x@news.bank.example", ip: theirs, verdict: auth.Pass},
		{name: "From in a subdomain, record above", mail: sign(t, letter("a@news.bank.example"), "bank.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Pass},
		{name: "From in a subdomain fails by the record above", mail: letter("a@x.free.example"), envelope: "x@list.example", ip: other, verdict: auth.Fail,
			text: "dmarc=fail header.from=x.free.example policy.dmarc=quarantine; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=none"},
		{name: "subdomain signs, strict", mail: sign(t, letter("a@tight.example"), "news.tight.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Fail,
			text: "dmarc=fail header.from=tight.example policy.dmarc=quarantine; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=pass header.d=news.tight.example policy.aligned=no"},
		{name: "subdomain sends, strict", mail: letter("a@tight.example"), envelope: "x@news.tight.example", ip: theirs, verdict: auth.Fail},
		{name: "same domain, strict", mail: sign(t, letter("a@tight.example"), "tight.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Pass},
		{name: "public suffixes do not align", zone: base.with("_dmarc.a.co.uk=v=DMARC1; p=none", "s1._domainkey.b.co.uk="+keyRecord(t, edKey)),
			mail: sign(t, letter("x@a.co.uk"), "b.co.uk", edKey), envelope: "x@list.example", ip: other, verdict: auth.Fail},
		{name: "international domain", mail: sign(t, letter("x@Bücher.example"), "xn--bcher-kva.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Pass},
		{name: "international envelope", mail: letter("x@xn--bcher-kva.example"), envelope: "x@bücher.example", ip: theirs, verdict: auth.Pass},

		{name: "no record, DKIM", mail: sign(t, old, "old.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Pass,
			text: "dmarc=none header.from=old.example; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=pass header.d=old.example policy.aligned=yes"},
		{name: "no record, SPF", mail: old, envelope: "ann@news.old.example", ip: theirs, verdict: auth.Pass},
		{name: "no record, hard fail", mail: old, envelope: "ann@old.example", ip: other, verdict: auth.Fail,
			text: "dmarc=none header.from=old.example; spf=fail policy.aligned=yes smtp.mailfrom=old.example; dkim=none"},
		{name: "no record, hard fail of another domain", mail: old, envelope: "x@list.example", ip: theirs, verdict: auth.None},
		{name: "no record, hard fail, but signed", mail: sign(t, old, "old.example", edKey), envelope: "ann@old.example", ip: other, verdict: auth.Pass},
		{name: "no record, broken signature", mail: sign(t, old, "old.example", edKey) + "more\r\n", envelope: "x@list.example", ip: other, verdict: auth.None},
		{name: "no record, softfail", mail: letter("a@soft.example"), envelope: "a@soft.example", ip: other, verdict: auth.None},
		{name: "nothing at all", mail: letter("a@mute.example"), envelope: "a@mute.example", ip: other, verdict: auth.None,
			text: `dmarc=none header.from=mute.example; spf=none policy.aligned=yes smtp.mailfrom=mute.example; dkim=none`},
		{name: "address literal", mail: letter("a@[192.0.2.1]"), envelope: "a@mute.example", ip: other, verdict: auth.None},
		{name: "SPF loops", mail: letter("a@greedy.example"), envelope: "a@greedy.example", ip: other, verdict: auth.None},
		{name: "several records count as none", zone: base.with("_dmarc.bank.example=v=DMARC1; p=none"), mail: bank, envelope: "x@list.example", ip: other, verdict: auth.None},
		{name: "record without policy counts as none", zone: base.with("_dmarc.mute.example=v=DMARC1; fo=1"), mail: letter("a@mute.example"), envelope: "x@list.example", ip: other, verdict: auth.None},
		{name: "record with reports only is p=none", zone: base.with("_dmarc.mute.example=v=DMARC1; p=odd; rua=mailto:x@y.example; ri=no"), mail: letter("a@mute.example"), envelope: "x@list.example", ip: other, verdict: auth.Fail},

		{name: "DMARC unknown, very domain", zone: base.failing("_dmarc.bank.example"), mail: sign(t, bank, "bank.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Pass,
			text: `dmarc=temperror reason="the name server failed" header.from=bank.example; spf=pass policy.aligned=no smtp.mailfrom=list.example; dkim=pass header.d=bank.example policy.aligned=yes`},
		{name: "DMARC unknown, organisation", zone: base.failing("_dmarc.bank.example"), mail: sign(t, bank, "news.bank.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.None},
		{name: "DMARC unknown, nothing passes", zone: base.failing("_dmarc.bank.example"), mail: bank, envelope: "x@list.example", ip: other, verdict: auth.None},
		{name: "DMARC unknown, hard fail", zone: base.failing("_dmarc.bank.example"), mail: bank, envelope: "x@bank.example", ip: other, verdict: auth.Fail},
		{name: "key unknown", zone: base.failing("s1._domainkey.bank.example"), mail: sign(t, bank, "bank.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.None},
		{name: "key of another unknown", zone: base.failing("s1._domainkey.list.example"), mail: sign(t, bank, "list.example", edKey), envelope: "x@list.example", ip: other, verdict: auth.Fail},
		{name: "SPF unknown", zone: base.failing("bank.example"), mail: bank, envelope: "a@bank.example", ip: theirs, verdict: auth.None},
		{name: "SPF of another unknown", zone: base.failing("list.example"), mail: bank, envelope: "a@list.example", ip: other, verdict: auth.Fail},
		{name: "no client address", mail: bank, envelope: "a@bank.example", verdict: auth.None},
		{name: "no client address, another's envelope", mail: bank, envelope: "a@list.example", verdict: auth.Fail},
		{name: "DNS down", zone: base.failing("_dmarc.bank.example", "bank.example", "s1._domainkey.bank.example"), mail: sign(t, bank, "bank.example", edKey), envelope: "a@bank.example", ip: theirs, verdict: auth.None},

		{name: "no From", mail: "To: a@b.example\r\n\r\nhi\r\n", envelope: "a@bank.example", ip: theirs, verdict: auth.Fail},
		{name: "empty mail", mail: "", ip: theirs, verdict: auth.Fail},
		{name: "two From fields", mail: "From: eve@list.example\r\n" + sign(t, bank, "bank.example", edKey), envelope: "a@bank.example", ip: theirs, verdict: auth.Fail},
		{name: "From with space before the colon is one too", mail: "From : eve@list.example\r\n" + sign(t, bank, "bank.example", edKey), envelope: "a@bank.example", ip: theirs, verdict: auth.Fail},
		{name: "two authors of two domains", mail: letter("a@bank.example, b@old.example"), envelope: "a@bank.example", ip: theirs, verdict: auth.Fail},
		{name: "two authors of one domain", mail: letter("a@bank.example, B <b@BANK.example>"), envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
		{name: "From unreadable", mail: letter("nobody"), envelope: "a@bank.example", ip: theirs, verdict: auth.Fail},
		{name: "From of a single label", mail: letter("root@localhost"), envelope: "a@bank.example", ip: theirs, verdict: auth.Fail},
		{name: "name without quotes", mail: letter("Ann, Ltd. <ann@bank.example>"), envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
		{name: "name with an address in it", mail: letter(`"ann@old.example" <ann@bank.example>`), envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
		{name: "address in a name without quotes", mail: letter("ann@old.example <ann@bank.example>"), envelope: "a@bank.example", ip: theirs, verdict: auth.Fail},
		{name: "name in an unknown charset", mail: letter("=?x-none?Q?=FF?= <ann@bank.example>"), envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
		{name: "name in Latin-1 bytes", mail: letter("J\xf6rg <ann@bank.example>"), envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
		{name: "folded From", mail: letter("Ann\r\n <ann@bank.example>"), envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
		{name: "line feeds alone", mail: strings.ReplaceAll(bank, "\r\n", "\n"), envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
		{name: "header only", mail: "From: a@bank.example\r\n", envelope: "a@bank.example", ip: theirs, verdict: auth.Pass},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z := tt.zone
			if z == nil {
				z = base.with()
			}
			got := auth.NewVerifier(auth.Config{Resolver: z}).Verify(context.Background(), auth.Input{
				Raw: []byte(tt.mail), EnvelopeFrom: tt.envelope, HELO: tt.helo, ClientIP: tt.ip,
			})
			require.Equal(t, tt.verdict.String(), got.Verdict.String(), "%s: %s", got.Reason, got.Text("mx"))
			require.NotEmpty(t, got.Reason)
			if tt.text != "" {
				require.Equal(t, "mx; "+tt.text, got.Text("mx"))
			}
		})
	}
}

func TestVerifyRSAAndSimple(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	z := domains(t)
	z.txt["s1._domainkey.bank.example"] = []string{keyRecord(t, key)}
	signed := sign(t, letter("ann@bank.example"), "bank.example", key, func(o *dkim.SignOptions) {
		o.HeaderCanonicalization, o.BodyCanonicalization = dkim.CanonicalizationSimple, dkim.CanonicalizationSimple
	})
	got := auth.NewVerifier(auth.Config{Resolver: z}).Verify(context.Background(), auth.Input{Raw: []byte(signed)})
	require.Equal(t, auth.Pass, got.Verdict)
	require.Equal(t, []string{"ann@bank.example"}, got.Authors)
	require.Equal(t, "bank.example", got.Domain)
}

// A name server that never answers ends with the deadline, whatever hangs.
func TestVerifyHanging(t *testing.T) {
	t.Parallel()
	base := domains(t)
	mail := sign(t, letter("ann@bank.example"), "bank.example", edKey)
	ended, end := context.WithCancel(context.Background())
	end()
	tests := []struct {
		name     string
		ctx      context.Context
		timeout  time.Duration
		resolver auth.Resolver
		mail     string
		verdict  auth.Verdict
		text     string
	}{
		{"everything", context.Background(), 50 * time.Millisecond, stuck{}, mail, auth.None,
			`mx; dmarc=temperror reason="the deadline passed" header.from=bank.example; spf=temperror reason="the deadline passed" policy.aligned=yes smtp.mailfrom=bank.example; dkim=temperror reason="key unavailable: lookup s1._domainkey.bank.example: the deadline passed" header.d=bank.example policy.aligned=yes`},
		{"a caller that has gone", ended, time.Hour, stuck{}, mail, auth.None,
			`mx; dmarc=temperror reason="the deadline passed" header.from=bank.example; spf=temperror reason="the deadline passed" policy.aligned=yes smtp.mailfrom=bank.example; dkim=temperror reason="the deadline passed" header.d=bank.example policy.aligned=yes`},
		{"the key of one signature", context.Background(), 2 * time.Second,
			base.hanging("s1._domainkey.list.example", "bank.example"), sign(t, mail, "list.example", edKey), auth.Pass, ""},
		{"the record", context.Background(), 2 * time.Second, base.hanging("_dmarc.bank.example"), mail, auth.Pass, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := auth.NewVerifier(auth.Config{Resolver: tt.resolver, Timeout: tt.timeout}).Verify(tt.ctx, auth.Input{
				Raw: []byte(tt.mail), EnvelopeFrom: "a@bank.example", ClientIP: theirs,
			})
			require.Equal(t, tt.verdict.String(), got.Verdict.String(), got.Text("mx"))
			if tt.text != "" {
				require.Equal(t, tt.text, got.Text("mx"))
			}
		})
	}
}

// What a sender can make large is not worked on without end, and gains nothing.
func TestVerifyBounds(t *testing.T) {
	t.Parallel()
	base := domains(t)
	bank := letter("ann@bank.example")
	signed := sign(t, bank, "bank.example", edKey)
	many := signed
	for range 60 {
		many = sign(t, many, "list.example", edKey)
	}
	tests := []struct {
		name string
		mail string
		// lookups is the most that may be asked.
		lookups int
		verdict auth.Verdict
		reason  string
	}{
		{"sixty signatures above", many, auth.MaxSignatures + 2, auth.Fail, "nothing passes"},
		{"a signature of many fields", strings.Replace(signed, "h=", "h="+strings.Repeat("to:", 600), 1), 2, auth.Fail, "nothing passes"},
		{"a header of many lines", "X: y\r\n" + strings.Repeat(" z\r\n", auth.MaxHeaderLines) + signed, 0, auth.Fail, "the header is too large"},
		{"a header of many bytes", "X: " + strings.Repeat("y", auth.MaxHeaderBytes) + "\r\n" + signed, 0, auth.Fail, "the header is too large"},
		{"a long From", letter("A" + strings.Repeat(" a", 5000) + " <ann@bank.example>"), 0, auth.Fail, "the From field is too long"},
		{"many authors", letter(strings.Repeat("a@bank.example, ", auth.MaxAuthors) + "b@bank.example"), 0, auth.Fail, "the From field has too many addresses"},
		{"a body of line breaks", signed + strings.Repeat("\r\n", 1<<20), 2, auth.Fail, "nothing passes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z := base.with()
			got := auth.NewVerifier(auth.Config{Resolver: z}).Verify(context.Background(), auth.Input{
				Raw: []byte(tt.mail), EnvelopeFrom: "x@list.example", ClientIP: other,
			})
			require.Equal(t, tt.verdict, got.Verdict, got.Text("mx"))
			require.Contains(t, got.Reason, tt.reason)
			require.LessOrEqual(t, z.count(), tt.lookups+1)
			require.LessOrEqual(t, len(got.Text("mx")), auth.MaxText)
		})
	}

	t.Run("SPF with many look-ups", func(t *testing.T) {
		t.Parallel()
		z := base.with()
		got := auth.NewVerifier(auth.Config{Resolver: z}).Verify(context.Background(), auth.Input{
			Raw: []byte(letter("a@mxes.example")), EnvelopeFrom: "a@mxes.example", ClientIP: theirs,
		})
		require.Equal(t, auth.None, got.Verdict)
		require.Equal(t, auth.ValuePermError, got.Methods[1].Value)
		require.LessOrEqual(t, z.count(), 51)
	})

	t.Run("trailing blank lines stay fine", func(t *testing.T) {
		t.Parallel()
		got := auth.NewVerifier(auth.Config{Resolver: base.with()}).Verify(context.Background(), auth.Input{
			Raw: []byte(signed + strings.Repeat("\r\n", 100)), EnvelopeFrom: "x@list.example", ClientIP: other,
		})
		require.Equal(t, auth.Pass, got.Verdict)
	})

	t.Run("a large body", func(t *testing.T) {
		t.Parallel()
		large := sign(t, bank+strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 100_000), "bank.example", edKey)
		v := auth.NewVerifier(auth.Config{Resolver: base.with(), Timeout: time.Minute})
		require.Equal(t, auth.Pass, v.Verify(context.Background(), auth.Input{Raw: []byte(large)}).Verdict)
		large = large[:len(large)-3] + "X\r\n"
		require.Equal(t, auth.None, v.Verify(context.Background(), auth.Input{Raw: []byte(large), EnvelopeFrom: "a@bank.example"}).Verdict)
	})
}

// A mail put together anew cannot hold its signatures: only the report counts.
func TestVerifyRebuilt(t *testing.T) {
	t.Parallel()
	base := domains(t)
	mail := sign(t, letter("ann@bank.example"), "bank.example", edKey) + "changed\r\n"
	twice := sign(t, mail, "list.example", edKey)
	tests := []struct {
		name    string
		mail    string
		report  auth.Report
		verdict auth.Verdict
	}{
		{"DKIM passed", mail, auth.ReportSendGrid("fail", "{@bank.example : pass}"), auth.Pass},
		{"DKIM failed", mail, auth.ReportSendGrid("fail", "{@bank.example : fail}"), auth.Fail},
		{"DKIM not said", mail, auth.ReportSendGrid("fail", ""), auth.None},
		{"DKIM of another passed", mail, auth.ReportSendGrid("none", "{@list.example : pass}"), auth.Fail},
		{"SPF passed for another", mail, auth.ReportSendGrid("pass", "none"), auth.Fail},
		{"DKIM passed without a domain, one signature", mail, auth.ReportMailgun("Fail", "Pass"), auth.Pass},
		{"DKIM passed without a domain, two signers", twice, auth.ReportMailgun("Fail", "Pass"), auth.None},
		{"DKIM failed without a domain", twice, auth.ReportMailgun("Fail", "Fail"), auth.Fail},
		{"DKIM passed without a domain, no signature of the author", sign(t, letter("ann@bank.example"), "list.example", edKey), auth.ReportMailgun("Fail", "Pass"), auth.Fail},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := auth.NewVerifier(auth.Config{Resolver: base.with()}).Verify(context.Background(), auth.Input{
				Raw: []byte(tt.mail), Rebuilt: true, EnvelopeFrom: "x@list.example", Report: tt.report,
			})
			require.Equal(t, tt.verdict.String(), got.Verdict.String(), got.Text("mx"))
		})
	}
}
