package auth_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/services/email/internal/auth"
)

func FuzzParseResults(f *testing.F) {
	f.Add("mx.google.com; dkim=pass header.i=@a.example header.s=s1; spf=pass (a (b)) smtp.mailfrom=x@a.example; dmarc=pass (p=NONE) header.from=a.example")
	f.Add(`mx 1; spf = fail smtp.mailfrom="a;b\" c"@a.example reason="x"`)
	f.Add("mx; none")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := auth.ParseResults(value)
		if err != nil {
			require.Empty(t, got.Methods)
			return
		}
		for _, m := range got.Methods {
			require.Contains(t, []string{"dmarc", "spf", "dkim"}, m.Name)
			require.LessOrEqual(t, len(m.Detail), auth.MaxDetail)
			if m.Value == auth.ValuePass {
				require.NotEmpty(t, m.Domain)
			}
		}
		// What was read reads the same once written.
		again, err := auth.ParseResults(auth.Result{Methods: got.Methods}.Text("mx.example"))
		require.NoError(t, err)
		require.LessOrEqual(t, len(again.Methods), len(got.Methods))
		for i, m := range again.Methods {
			want := got.Methods[i]
			want.HELO = want.HELO && want.Domain != "" || want.Name == "spf" && want.Domain == ""
			require.Equal(t, want, m)
		}
		// Nothing that a comment says counts.
		commented, err := auth.ParseResults("mx.example (" + strings.NewReplacer("(", "", ")", "", `\`, "").Replace(value) + ") ; none")
		if err == nil {
			require.Empty(t, commented.Methods)
		}
	})
}

func FuzzVerify(f *testing.F) {
	signed := sign(f, letter("ann@bank.example"), "bank.example", edKey)
	f.Add([]byte(signed), "ann@bank.example", "mx.bank.example", "{@bank.example : pass}", "Pass")
	f.Add([]byte(sign(f, signed, "list.example", edKey)), "<>", "[192.0.2.1]", "none", "softfail")
	f.Add([]byte("From: a@b.example\nAuthentication-Results: mx; dmarc=pass\n"), "\"a b\"@b.example", "", "", "")
	base := domains(f)
	f.Fuzz(func(t *testing.T, raw []byte, envelope, helo, dkimField, spfField string) {
		v := auth.NewVerifier(auth.Config{Resolver: base.with(), Timeout: time.Minute})
		in := auth.Input{Raw: raw, EnvelopeFrom: envelope, HELO: helo, ClientIP: netip.MustParseAddr("192.0.2.10")}
		check(t, v.Verify(context.Background(), in))
		in.Report = auth.ReportSendGrid(spfField, dkimField)
		in.ClientIP = netip.Addr{}
		check(t, v.Verify(context.Background(), in))
		check(t, auth.Judge(in))
		in.Report = auth.ReportPostmark([]string{spfField})
		check(t, auth.Judge(in))
		in.Report = auth.ReportFromHeaders(raw, []auth.TrustedServer{{AuthservID: "mx", Fields: 2}})
		check(t, auth.Judge(in))
	})
}

func check(t *testing.T, r auth.Result) {
	t.Helper()
	require.Contains(t, []auth.Verdict{auth.Pass, auth.Fail, auth.None}, r.Verdict)
	require.NotEmpty(t, r.Reason)
	if r.Verdict == auth.Pass {
		require.NotEmpty(t, r.Domain)
		require.NotEmpty(t, r.Authors)
	}
	text := r.Text("mx.shop.example")
	require.LessOrEqual(t, len(text), auth.MaxText)
	_, err := auth.ParseResults(text)
	require.NoError(t, err, text)
}
