package auth

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Verifier checks mails. It may be used concurrently.
type Verifier struct {
	cfg Config
}

// Config is what a Verifier needs.
type Config struct {
	// Resolver asks the DNS. Required; a Cache over net.DefaultResolver in
	// production.
	Resolver Resolver
	// Timeout bounds one Verify. Defaults to 10 s.
	Timeout time.Duration
}

// DefaultTimeout is long enough for a slow name server asked a few times, and
// short enough for an SMTP client, which waits 10 minutes (RFC 5321, 4.5.3.2.6).
const DefaultTimeout = 10 * time.Second

// NewVerifier makes a Verifier.
func NewVerifier(cfg Config) *Verifier {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	return &Verifier{cfg: cfg}
}

// Input is a mail and how it came.
type Input struct {
	// Raw is the mail (RFC 5322) exactly as received. It is not changed.
	Raw []byte
	// Rebuilt says that Raw was put together from a vendor's fields: signatures
	// cannot hold over it, so only Report says anything of DKIM.
	Rebuilt bool
	// EnvelopeFrom is the address of MAIL FROM, with or without angle brackets;
	// empty for the null sender.
	EnvelopeFrom string
	// HELO is what the client called itself.
	HELO string
	// ClientIP is the address that delivered the mail from outside. Leave it
	// invalid where that is not known or was a relay of one's own: then SPF is
	// what Report says, or was not looked at.
	ClientIP netip.Addr
	// Report is what a trusted party said of it; see ReportFromHeaders and the
	// vendors' functions. Used only for what cannot be checked here.
	Report Report
}

// Result is what is known of a mail's author.
type Result struct {
	Verdict Verdict
	// Reason says in a few words of plain ASCII why the verdict is that.
	Reason string
	// Domain is the domain of From that was judged, in lower case with A-labels;
	// empty where there was none to judge.
	Domain string
	// Authors are the addresses of the From field, as written, at most
	// MaxAuthors. Whoever reads From otherwise and gets other addresses must
	// not use the verdict for them.
	Authors []string
	// Methods are the results: dmarc, spf, then dkim in the order of the
	// signatures, at most MaxSignatures.
	Methods []Method
}

// Verdict is the verdict as events carry it.
type Verdict = eventv1.AuthenticationVerdict

// The verdicts; the package's documentation has the table.
const (
	Pass = eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_PASS
	Fail = eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_FAIL
	None = eventv1.AuthenticationVerdict_AUTHENTICATION_VERDICT_NONE
)

// Method is the result of one method of authentication.
type Method struct {
	// Name is dmarc, spf or dkim.
	Name string
	// Value is the result; empty for a method that was not looked at.
	Value Value
	// Domain is what the result is about, normalised: header.from of dmarc, the
	// domain of MAIL FROM or HELO of spf, d= of dkim. Empty if not known.
	Domain string
	// HELO says that an SPF result is about the HELO name.
	HELO bool
	// Aligned says that Domain speaks for the From domain, by the modes of the
	// DMARC record, or relaxedly without one.
	Aligned bool
	// Policy is p= or, for a subdomain, sp= of the DMARC record: none,
	// quarantine or reject. Of dmarc only.
	Policy string
	// Detail is a cause in plain ASCII, at most MaxDetail bytes; may be empty.
	Detail string
}

// Value is a method's result as RFC 8601, section 2.7, names it.
type Value string

// The results.
const (
	ValuePass      Value = "pass"
	ValueFail      Value = "fail"
	ValueSoftFail  Value = "softfail"
	ValueNeutral   Value = "neutral"
	ValueNone      Value = "none"
	ValuePolicy    Value = "policy"
	ValueTempError Value = "temperror"
	ValuePermError Value = "permerror"
)

const (
	dmarcName = "dmarc"
	spfName   = "spf"
	dkimName  = "dkim"
)

// Verify checks a mail against the DNS. It always has a Result: what could not
// be found out before the deadline, the Verifier's or the context's, is a
// temporary error in it.
func (v *Verifier) Verify(ctx context.Context, in Input) Result {
	head := scanHead(in.Raw)
	from := head.author()
	if from.verdict != verdictOpen {
		return from.result()
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Timeout)
	defer cancel()

	e := evidence{from: from, head: head}
	var wg sync.WaitGroup
	wg.Go(func() {
		e.record = findRecord(ctx, newLookups(v.cfg.Resolver, maxDMARCLookups), from.domain)
	})
	wg.Go(func() {
		if !in.ClientIP.IsValid() {
			e.spf = in.Report.spf(in.EnvelopeFrom, in.HELO)
			return
		}
		e.spf = checkSPF(ctx, newLookups(v.cfg.Resolver, maxSPFLookups), in)
	})
	wg.Go(func() {
		if in.Rebuilt {
			e.dkim = in.Report.dkim(head, from.domain)
			return
		}
		e.dkim = checkDKIM(ctx, newLookups(v.cfg.Resolver, MaxSignatures), v.cfg.Timeout/2, in.Raw, head)
	})
	wg.Wait()
	return e.judge()
}

// Judge gives the verdict on a report alone, without asking the DNS: for mail
// imported long after it came, whose keys and records may be gone. The DMARC
// record is unknown unless the report says otherwise.
func Judge(in Input) Result {
	head := scanHead(in.Raw)
	from := head.author()
	if from.verdict != verdictOpen {
		return from.result()
	}
	e := evidence{
		from:   from,
		head:   head,
		record: in.Report.record(from.domain),
		spf:    in.Report.spf(in.EnvelopeFrom, in.HELO),
		dkim:   in.Report.dkim(head, from.domain),
	}
	return e.judge()
}

// identity is the domain that SPF is about: that of MAIL FROM or, for the null
// sender, of HELO (RFC 7208, 2.4).
func identity(envelopeFrom, helo string) (domain string, byHELO bool) {
	sender := strings.Trim(strings.TrimSpace(envelopeFrom), "<>")
	if sender == "" {
		return normalDomain(helo), true
	}
	return domainOf(sender), false
}
