package email_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	"github.com/parleyhq/parley/services/email"
)

// who says who took part, one word each.
func who(ev *eventv1.Event) string {
	var all []string
	for _, id := range ev.GetIdentifiers() {
		role := strings.ToLower(strings.TrimPrefix(id.GetRole().String(), "IDENTIFIER_ROLE_"))
		if a := id.GetAssurance(); a != 0 {
			role += "/" + strings.ToLower(strings.TrimPrefix(a.String(), "IDENTIFIER_ASSURANCE_"))
		}
		all = append(all, role+":"+id.GetValue())
	}
	return strings.Join(all, " ")
}

func TestAMailBecomesAnEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	raw := crlf(
		"Return-Path: <ada@customer.example>",
		"From: =?utf-8?q?Ada_L=C3=B6velace?= <Ada@customer.example>",
		"To: Support <support+c-k7@acme.example>, bob@partner.example", "Cc: press@acme.example",
		"Reply-To: ada@home.example", "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Date: Fri, 13 Mar 2026 09:59:00 +0100",
		"Message-ID: <m2@customer.example>", "In-Reply-To: <m1@acme.example>", "References: <m0@acme.example> <m1@acme.example>",
		"MIME-Version: 1.0", `Content-Type: multipart/mixed; boundary="b"`, "",
		"--b", "Content-Type: text/plain; charset=utf-8", "", "Yes, please.", "", "On Thu, Acme wrote:", "> Shall we?", "", "-- ", "Ada",
		"--b", `Content-Type: application/pdf; name="bill.pdf"`, "Content-Transfer-Encoding: base64", "Content-Disposition: attachment", "", "JVBERg==",
		"--b--")
	ev := r.one(raw)
	require.Equal(t, "parley.email.received", ev.GetType())
	require.Equal(t, event.DeterministicID("acme", "email", "m2@customer.example").String(), ev.GetId())
	require.Equal(t, "email", ev.GetSource())
	require.Equal(t, "m2@customer.example", ev.GetSourceId())
	require.Equal(t, eventv1.Direction_DIRECTION_INBOUND, ev.GetDirection())
	require.Empty(t, ev.GetConversation(), "the recorder's to resolve")
	require.False(t, ev.GetBackfill())
	require.Equal(t, now.Add(-time.Minute), ev.GetOccurredTime().AsTime())
	require.Equal(t, now, ev.GetReceivedTime().AsTime())
	require.JSONEq(t, `{"via":"smtp","queue":"support","helo":"mail.customer.example"}`, ev.GetContextJson())
	require.Equal(t, "customer/unchecked:Ada@customer.example company:support@acme.example other:bob@partner.example company:press@acme.example", who(ev))
	p := ev.GetPayload().GetEmailReceived()
	require.Equal(t, "m1@acme.example", p.GetInReplyTo())
	require.Equal(t, []string{"m0@acme.example", "m1@acme.example"}, p.GetReferences())
	require.Equal(t, "k7", p.GetAddressConversation())
	require.Equal(t, "Grüße", p.GetSubject())
	require.Equal(t, "Yes, please.", p.GetText())
	require.Equal(t, "On Thu, Acme wrote:\n> Shall we?\n\n-- \nAda", p.GetQuotedText())
	require.Equal(t, "Ada Lövelace", p.GetFrom()[0].GetName())
	require.Equal(t, "ada@home.example", p.GetReplyTo()[0].GetAddress())
	require.Equal(t, "support@acme.example", p.GetMailbox())
	require.Equal(t, int64(len(raw)), p.GetSizeBytes())
	require.Equal(t, raw, string(r.blobs.get(p.GetRawBlob())))
	require.Len(t, p.GetAttachments(), 1)
	require.Equal(t, "bill.pdf", p.GetAttachments()[0].GetFileName())
	require.Equal(t, "%PDF", string(r.blobs.get(p.GetAttachments()[0].GetBlob())))
	require.Empty(t, p.GetTextBlob())
	require.Empty(t, p.GetDefects())
	require.Equal(t, eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_NONE, p.GetAuthentication())
	require.Contains(t, p.GetAuthenticationResults(), "mx.acme.example")
}

// TestCopiesOfAMailAreOne compares a mail with copies that came another way.
func TestCopiesOfAMailAreOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	direct := plain("same@customer.example", "Shall we meet\r\non Monday?")
	first := r.one(direct)
	for name, copyOf := range map[string]string{
		"with trace fields":  "Received: from a by b; Fri, 13 Mar 2026 09:00:01 +0000\r\nDelivered-To: support@acme.example\r\n" + direct,
		"of a list":          strings.Replace(strings.Replace(direct, "Subject: ", "List-Id: <talk.lists.example>\r\nSubject: [talk] ", 1), "To: support@acme.example", "To: talk@lists.example", 1) + "_______________________________________________\r\ntalk mailing list\r\ntalk@lists.example\r\nhttp://lists.example/talk\r\n",
		"with LF":            strings.ReplaceAll(direct, "\r\n", "\n"),
		"wrapped otherwise":  strings.Replace(direct, "meet\r\non", "meet on", 1),
		"quoted-printable":   strings.Replace(direct, "\r\n\r\nShall", "\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nS=68all", 1),
		"with another reply": direct,
	} {
		again := r.one(copyOf)
		require.Equal(t, first.GetId(), again.GetId(), name)
		require.Equal(t, first.GetContentDigest(), again.GetContentDigest(), name)
	}
	for name, other := range map[string]string{
		"another text":   strings.Replace(direct, "Monday", "Tuesday", 1),
		"another author": strings.Replace(direct, "ada@customer", "eve@customer", 1),
		"another date":   strings.Replace(direct, "08:59", "08:58", 1),
		"a file more":    strings.Replace(direct, "\r\n\r\nShall", "\r\nContent-Type: application/pdf\r\n\r\nShall", 1),
	} {
		ev := r.one(other)
		require.Equal(t, first.GetId(), ev.GetId(), name)
		require.NotEqual(t, first.GetContentDigest(), ev.GetContentDigest(), name)
	}
	nameless := strings.Replace(direct, "Message-ID: <same@customer.example>\r\n", "", 1)
	a, b := r.one(nameless), r.one("Received: by x\r\n"+nameless)
	require.NotEqual(t, first.GetId(), a.GetId())
	require.Equal(t, a.GetId(), b.GetId())
	require.Equal(t, a.GetContentDigest(), b.GetContentDigest())
	long := strings.Repeat("x", 900) + "@customer.example"
	ev := r.one(plain(long, "long id"))
	require.True(t, strings.HasPrefix(ev.GetSourceId(), "sha256:"))
	require.Equal(t, long, ev.GetPayload().GetEmailReceived().GetMessageId())
}

func TestWhoseAMailIs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ from, want string }{
		"nobody's":         {"", "company:support@acme.example"},
		"ours":             {"From: Agent <agent@acme.example>\r\n", "company:agent@acme.example company:support@acme.example"},
		"another tenant's": {"From: hello@globex.example\r\n", "customer/unchecked:hello@globex.example company:support@acme.example"},
		"several of one":   {"From: a@customer.example, b@customer.example\r\n", "customer/unchecked:a@customer.example other:b@customer.example company:support@acme.example"},
		"several domains":  {"From: a@customer.example, b@other.example\r\n", "customer/failed:a@customer.example other:b@other.example company:support@acme.example"},
		"two fields":       {"From: a@customer.example\r\nFrom: b@customer.example\r\n", "customer/failed:a@customer.example other:b@customer.example company:support@acme.example"},
		"no address":       {"From: MAILER-DAEMON\r\n", "company:support@acme.example"},
		"an encoded trick": {"From: =?utf-8?q?ceo=40victim.example_?= <a@customer.example>\r\n", "customer/unchecked:a@customer.example company:support@acme.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ev := newRig(t, nil).one(tc.from + "To: support@acme.example\r\nSubject: x\r\n\r\nHello\r\n")
			require.Equal(t, tc.want, who(ev))
			require.Equal(t, eventv1.Direction_DIRECTION_INBOUND, ev.GetDirection())
		})
	}
}

// zone is a DNS.
type zone map[string][]string

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	if texts, ok := z[strings.TrimSuffix(name, ".")]; ok {
		return texts, nil
	}
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func (z zone) LookupMX(context.Context, string) ([]*net.MX, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func (z zone) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func (z zone) LookupAddr(context.Context, string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	dns := zone{
		"customer.example": {"v=spf1 ip4:198.51.100.7 -all"}, "_dmarc.customer.example": {"v=DMARC1; p=reject"},
	}
	outside, forger := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.66")
	relay := netip.MustParseAddr("192.0.2.25")
	reported := "Authentication-Results: mx.relay.example; dmarc=pass header.from=customer.example\r\n"
	for name, tc := range map[string]struct {
		client netip.Addr
		head   string
		want   string
	}{
		"passes SPF":                 {outside, "", "customer:ada@customer.example"},
		"forged":                     {forger, "", "customer/failed:ada@customer.example"},
		"forged with a report":       {forger, reported, "customer/failed:ada@customer.example"},
		"from a relay":               {relay, "", "customer/unchecked:ada@customer.example"},
		"from a relay with a report": {relay, reported, "customer:ada@customer.example"},
		"from here":                  {netip.MustParseAddr("127.0.0.1"), "", "customer/unchecked:ada@customer.example"},
		"another server's report":    {relay, strings.Replace(reported, "mx.relay", "mx.evil", 1), "customer/unchecked:ada@customer.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *email.Config, deps *email.Deps) {
				deps.Resolver = dns
				cfg.Relays = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
				cfg.TrustedServers = []email.TrustedServer{{ID: "mx.relay.example"}}
			})
			env := bySMTP("support@acme.example")
			env.ClientIP = tc.client
			_, err := r.Take(t.Context(), env, []byte(tc.head+plain("v@customer.example", "Hello")))
			require.NoError(t, err)
			ev := r.publisher.events("acme")[0]
			require.Equal(t, tc.want, strings.Fields(who(ev))[0])
		})
	}
}

// deadDNS never answers.
type deadDNS struct{ asked chan struct{} }

func (d deadDNS) ask(ctx context.Context) error {
	d.asked <- struct{}{}
	<-ctx.Done()
	return &net.DNSError{Err: "i/o timeout", IsTimeout: true, IsTemporary: true}
}

func (d deadDNS) LookupTXT(ctx context.Context, _ string) ([]string, error) { return nil, d.ask(ctx) }
func (d deadDNS) LookupMX(ctx context.Context, _ string) ([]*net.MX, error) { return nil, d.ask(ctx) }
func (d deadDNS) LookupIPAddr(ctx context.Context, _ string) ([]net.IPAddr, error) {
	return nil, d.ask(ctx)
}
func (d deadDNS) LookupAddr(ctx context.Context, _ string) ([]string, error) { return nil, d.ask(ctx) }

func TestADeadDNSIsAskedSeldom(t *testing.T) {
	t.Parallel()
	dns := deadDNS{asked: make(chan struct{}, 1000)}
	clock := now
	r := newRig(t, func(cfg *email.Config, deps *email.Deps) {
		deps.Resolver, cfg.AuthenticationTimeout = dns, 20*time.Millisecond
		deps.Now = func() time.Time { return clock }
	})
	take := func(n int) int {
		before := len(dns.asked)
		for i := range n {
			env := bySMTP("support@acme.example")
			env.ClientIP = netip.MustParseAddr("198.51.100.7")
			_, err := r.Take(t.Context(), env, []byte(plain(fmt.Sprintf("%d@customer.example", i), "Hello")))
			require.NoError(t, err)
		}
		return len(dns.asked) - before
	}
	require.LessOrEqual(t, take(50), 8, "the first mails find out")
	clock = clock.Add(time.Minute)
	require.LessOrEqual(t, take(50), 2, "later one tries again")
	for _, ev := range r.publisher.events("acme") {
		require.Contains(t, who(ev), "customer/unchecked:ada@customer.example")
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	at := func(date string) *eventv1.Event {
		return r.one(strings.Replace(plain("t@customer.example", date), "Date: Fri, 13 Mar 2026 08:59:00 +0000", date, 1))
	}
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_AS_SAID, at("Date: Thu, 12 Mar 2026 10:00:00 -0500").GetTimeQuality())
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_RECEIVED, at("X: y").GetTimeQuality())
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_IMPLAUSIBLE, at("Date: Thu, 12 Mar 2037 10:00:00 +0000").GetTimeQuality())
	require.Equal(t, eventv1.TimeQuality_TIME_QUALITY_RECEIVED, at("Date: yesterday").GetTimeQuality())
}

func TestLongTextsAreBesideTheStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	long := strings.Repeat("Grüße und so weiter. ", 8000)
	ev := r.one(strings.Replace(plain("long@customer.example", long), "\r\n\r\n", "\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", 1))
	p := ev.GetPayload().GetEmailReceived()
	require.LessOrEqual(t, len(p.GetText()), 64<<10)
	require.True(t, strings.HasPrefix(long, p.GetText()))
	require.Equal(t, strings.TrimSpace(long), strings.TrimSpace(string(r.blobs.get(p.GetTextBlob()))))
	// What only quotes has a text all the same.
	ev = r.one(plain("quote@customer.example", "> What do you think?\r\n> Me?"))
	require.NotEmpty(t, ev.GetPayload().GetEmailReceived().GetText())
}

func TestReports(t *testing.T) {
	t.Parallel()
	report := func(kind, status string) string {
		return crlf("From: MAILER-DAEMON@mx.other.example", "To: support@acme.example", "Message-ID: <r1@mx.other.example>", "Subject: Undelivered",
			`Content-Type: multipart/report; report-type=`+kind+`; boundary="b"`, "MIME-Version: 1.0", "", "--b", "", "Sorry.", "--b", status,
			"--b", "Content-Type: message/rfc822", "", "Message-ID: <ours@acme.example>", "From: support@acme.example", "", "Hello", "--b--")
	}
	for name, tc := range map[string]struct{ raw, want string }{
		"bounce": {report("delivery-status", crlf("Content-Type: message/delivery-status", "", "Reporting-MTA: dns; mx.other.example", "",
			"Final-Recipient: rfc822; ada@customer.example", "Action: failed", "Status: 5.1.1", "Diagnostic-Code: smtp; 550 no such user", "",
			"Final-Recipient: rfc822; bob@customer.example", "Action: delayed", "Status: 4.4.1", "",
			"Final-Recipient: rfc822; eve@customer.example", "Action: delivered", "Status: 2.1.5")),
			`r1@mx.other.example/0 parley.email.bounced ours@acme.example PERMANENT 5.1.1 customer/unchecked:ada@customer.example
r1@mx.other.example/1 parley.email.bounced ours@acme.example TRANSIENT 4.4.1 customer/unchecked:bob@customer.example
r1@mx.other.example/2 parley.email.delivered ours@acme.example customer/unchecked:eve@customer.example`},
		"bounce of nobody": {report("delivery-status", crlf("Content-Type: message/delivery-status", "", "Reporting-MTA: dns; mx.other.example")),
			"r1@mx.other.example parley.email.received auto report"},
		"receipt": {report("disposition-notification", crlf("Content-Type: message/disposition-notification", "",
			"Final-Recipient: rfc822; ada@customer.example", "Original-Message-ID: <ours@acme.example>", "Disposition: manual-action/MDN-sent-manually; displayed")),
			"r1@mx.other.example/0 parley.email.opened ours@acme.example customer/unchecked:ada@customer.example"},
		"deleted unread": {report("disposition-notification", crlf("Content-Type: message/disposition-notification", "",
			"Final-Recipient: rfc822; ada@customer.example", "Original-Message-ID: <ours@acme.example>", "Disposition: manual-action/MDN-sent-manually; deleted")),
			"r1@mx.other.example parley.email.received auto report"},
		"complaint": {report("feedback-report", crlf("Content-Type: message/feedback-report", "", "Feedback-Type: abuse", "Version: 1",
			"User-Agent: x", "Original-Rcpt-To: <ada@customer.example>")),
			"r1@mx.other.example/0 parley.email.complained ours@acme.example customer/unchecked:ada@customer.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			_, err := r.Take(t.Context(), bySMTP("support@acme.example"), []byte(tc.raw))
			require.NoError(t, err)
			var lines []string
			for _, ev := range r.publisher.events("acme") {
				words := []string{ev.GetSourceId(), ev.GetType()}
				p := ev.GetPayload()
				if b := p.GetEmailBounced(); b != nil {
					words = append(words, b.GetMessageId(), strings.TrimPrefix(b.GetKind().String(), "BOUNCE_KIND_"), b.GetStatus())
					require.Equal(t, tc.raw, string(r.blobs.get(b.GetRawBlob())))
					require.Equal(t, "r1@mx.other.example", b.GetReportMessageId())
				}
				if m := p.GetEmailReceived(); m != nil {
					lines = append(lines, strings.Join(append(words, "auto", m.GetAutoReplyReason()), " "))
					require.True(t, m.GetAutoReply())
					continue
				}
				words = append(words, p.GetEmailDelivered().GetMessageId()+p.GetEmailOpened().GetMessageId()+p.GetEmailComplained().GetMessageId())
				lines = append(lines, strings.Join(strings.Fields(strings.Join(append(words, who(ev)), " ")), " "))
			}
			require.Equal(t, tc.want, strings.Join(lines, "\n"))
		})
	}
}

// TestHostileMails are taken, bounded, kept raw and marked.
func TestHostileMails(t *testing.T) {
	t.Parallel()
	nested := func(depth int) string {
		var b strings.Builder
		b.WriteString("From: a@customer.example\r\nMessage-ID: <nested@x>\r\n")
		for i := range depth {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		b.WriteString("\r\ntext\r\n")
		return b.String()
	}
	for name, tc := range map[string]struct {
		raw    string
		defect string
	}{
		"nested a thousand deep":      {nested(1000), "too_deep"},
		"a header of 10 MB":           {"From: a@customer.example\r\nX: " + strings.Repeat("x", 10<<20) + "\r\n\r\nbody\r\n", "header_cut"},
		"10 MB of header fields":      {"From: a@customer.example\r\n" + strings.Repeat("X: y\r\n", 10<<20/6) + "\r\nbody\r\n", "header_cut"},
		"a charset that lies":         {"From: a@customer.example\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xfc\xe4\xf6 lies\r\n", "charset_wrong"},
		"a multipart that never ends": {"From: a@customer.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\nx\r\n", 400_000), "too_many_parts"},
		"NUL bytes":                   {"From: a@customer.example\r\nSubject: a\x00b\r\n\r\nx\x00y\r\n", "nul"},
		"nothing":                     {"", "empty"},
		"no header":                   {"just some words\r\n", "no_header"},
		"binary":                      {string(bytes.Repeat([]byte{0xff, 0xfe, 0, 1, 0x80, '\r', '\n'}, 10_000)), "no_header"},
		"thousands of addresses":      {"From: a@customer.example\r\nTo: " + strings.Repeat("somebody with a long name <x@y.example>, ", 5000) + "\r\n\r\nbody\r\n", "too_many_addresses"},
		"a zip of zips": {"From: a@customer.example\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			"UEsDBAoAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAUEsDBA==\r\n", ""},
		"thousands of attachments": {"From: a@customer.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
			strings.Repeat("--b\r\nContent-Type: image/png\r\nContent-ID: <"+strings.Repeat("c", 900)+">\r\n\r\nx\r\n", 900) + "--b--\r\n", "too_many_attachments"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *email.Config, _ *email.Deps) { cfg.MaxBytes = 16 << 20 })
			ev := r.one(tc.raw)
			p := ev.GetPayload().GetEmailReceived()
			require.Equal(t, tc.raw, string(r.blobs.get(p.GetRawBlob())), "kept raw")
			if tc.defect != "" {
				require.Contains(t, p.GetDefects(), tc.defect)
			}
			require.Less(t, len(ev.String()), 900_000, "fits into a message")
		})
	}
}

func TestWhatIsNeverTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	loop := strings.Repeat("Received: from a by b\r\n", 51) + plain("loop@customer.example", "again")
	_, err := r.Take(t.Context(), bySMTP("support@acme.example"), []byte(loop))
	require.ErrorIs(t, err, email.ErrLoop)
	_, err = r.Take(t.Context(), bySMTP("nobody@nowhere.example"), []byte(plain("a@b", "x")))
	require.ErrorIs(t, err, email.ErrNoRecipient)
	_, err = r.Take(t.Context(), bySMTP("support@acme.example"), make([]byte, 1<<20+1))
	require.ErrorIs(t, err, email.ErrMailTooLarge)
	require.Empty(t, r.publisher.events("acme"))
	require.Empty(t, r.publisher.quarantined("acme"))
	_, err = r.Take(t.Context(), bySMTP("support@acme.example"), []byte(strings.Replace(loop, "Received: ", "X: ", 1)))
	require.NoError(t, err)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string][]email.Address{
		"none":       nil,
		"no at":      {{Address: "acme.example", Tenant: "acme"}},
		"at alone":   {{Address: "@", Tenant: "acme"}},
		"no domain":  {{Address: "a@", Tenant: "acme"}},
		"no tenant":  {{Address: "a@b"}},
		"tenant":     {{Address: "a@b", Tenant: "Acme"}},
		"twice":      {{Address: "a@b", Tenant: "acme"}, {Address: "A@B", Tenant: "globex"}},
		"a tag":      {{Address: "a+x@b", Tenant: "acme"}},
		"with name":  {{Address: "A <a@b>", Tenant: "acme"}},
		"long queue": {{Address: "a@b", Tenant: "acme", Queue: strings.Repeat("q", 200)}},
	} {
		_, err := email.NewBook(bad)
		require.Error(t, err, name)
	}
	b, err := email.NewBook(append(addresses, email.Address{Address: "@müller.example", Tenant: "acme"}))
	require.NoError(t, err)
	require.Equal(t, []string{"acme", "globex"}, b.Tenants())
}
