package auth

import (
	"strings"
)

// Report is what others said of a mail. Its Methods need no Name, and Aligned
// is not read.
type Report struct {
	// DMARC and SPF are nil where nothing was said.
	DMARC, SPF *Method
	// DKIM may hold results without a Domain, which the mail's signatures may
	// supply. Nil where nothing was said; a result of none where the mail was
	// said to have no signature.
	DKIM []Method
}

// record is what a report says of the DMARC record, for a From domain.
func (r Report) record(from string) record {
	if r.DMARC == nil {
		return record{state: recordUnknown}
	}
	m := *r.DMARC
	if m.Domain != "" && m.Domain != from {
		// It is about another mail, or about one whose From was changed.
		return record{state: recordUnknown}
	}
	switch m.Value {
	case ValuePass, ValueFail:
		return record{state: recordPresent, reported: m.Value, method: m}
	case ValueNone:
		return record{state: recordAbsent, method: m}
	default:
		return record{state: recordUnknown, method: m}
	}
}

// spf is what a report says of SPF, or one that was not looked at.
func (r Report) spf(envelopeFrom, helo string) Method {
	domain, byHELO := identity(envelopeFrom, helo)
	if r.SPF == nil {
		return Method{Name: spfName, Domain: domain, HELO: byHELO}
	}
	m := *r.SPF
	m.Name = spfName
	if m.Domain == "" {
		m.Domain, m.HELO = domain, byHELO
	}
	return m
}

// dkim is what a report says of the signatures. Signatures of which it says
// nothing were not looked at.
func (r Report) dkim(h head, from string) []Method {
	signatures := h.all("dkim-signature")
	signatures = signatures[:min(len(signatures), MaxSignatures)]
	if len(r.DKIM) == 0 {
		if len(signatures) == 0 {
			return []Method{{Name: dkimName, Value: ValueNone}}
		}
		methods := make([]Method, len(signatures))
		for i, s := range signatures {
			methods[i] = Method{Name: dkimName, Domain: signingDomain(s)}
			if methods[i].Domain == "" {
				methods[i].Value = ValuePermError
			}
		}
		return methods
	}
	methods := make([]Method, 0, min(len(r.DKIM), MaxSignatures))
	for _, m := range r.DKIM[:min(len(r.DKIM), MaxSignatures)] {
		m.Name = dkimName
		if m.Domain == "" {
			m.Domain = signedFor(signatures, from)
		}
		methods = append(methods, m)
	}
	return methods
}

// signedFor is the domain that a result without one is about, since it may be of
// any signature: the one that is least close to the From domain, or none where
// some are aligned with it and some are not.
func signedFor(signatures []string, from string) string {
	least, domain, most := strict, "", unaligned
	for i, s := range signatures {
		d := signingDomain(s)
		a := align(d, from)
		if i == 0 || a < least {
			least, domain = a, d
		}
		most = max(most, a)
	}
	if least == unaligned && most != unaligned {
		return ""
	}
	return domain
}

// ReportMailgun reads the headers X-Mailgun-Spf (Pass, Neutral, Fail, SoftFail)
// and X-Mailgun-Dkim-Check-Result (Pass, Fail), empty where there were none
// (documentation.mailgun.com, "Spam Filter"). SPF is about the envelope's
// domain; DKIM has no domain, see Report.
//
// A mail may carry such headers from its sender: they are the vendor's only if
// it puts them on every mail of this route.
func ReportMailgun(spf, dkim string) Report {
	var r Report
	if v := valueOf(spf); v != "" {
		r.SPF = &Method{Name: spfName, Value: v}
	}
	if v := valueOf(dkim); v != "" {
		r.DKIM = []Method{{Name: dkimName, Value: v}}
	}
	return r
}

// ReportSendGrid reads the fields SPF (a result) and dkim (none, or a list such
// as `{@example.com : pass, @lists.example : fail}`) of the Inbound Parse
// webhook. SPF is about the envelope's domain.
func ReportSendGrid(spf, dkim string) Report {
	var r Report
	if v := valueOf(spf); v != "" {
		r.SPF = &Method{Name: spfName, Value: v}
	}
	dkim = bounded(strings.TrimSpace(dkim), maxResults)
	if valueOf(dkim) == ValueNone {
		r.DKIM = []Method{{Name: dkimName, Value: ValueNone}}
		return r
	}
	for entry := range strings.SplitSeq(strings.Trim(dkim, "{}"), ",") {
		domain, result, ok := cutLast(entry, ":")
		domain = normalDomain(strings.TrimPrefix(strings.TrimSpace(domain), "@"))
		if v := valueOf(result); ok && v != "" && domain != "" && len(r.DKIM) < MaxSignatures {
			r.DKIM = append(r.DKIM, Method{Name: dkimName, Value: v, Domain: domain})
		}
	}
	return r
}

// ReportPostmark reads the mail's Received-SPF fields (RFC 7208, 9.1), topmost
// first, of which the topmost is Postmark's.
func ReportPostmark(receivedSPF []string) Report {
	if len(receivedSPF) == 0 {
		return Report{}
	}
	value := bounded(receivedSPF[0], maxResults)
	words, err := splitResults(value)
	if err != nil || len(words) == 0 || len(words[0]) == 0 {
		return Report{}
	}
	m := Method{Name: spfName, Value: valueOf(words[0][0])}
	if m.Value == "" {
		return Report{}
	}
	pairs := map[string]string{}
	for _, group := range words {
		for _, word := range group {
			if key, v, ok := strings.Cut(word, "="); ok {
				key = lowerASCII(key)
				if _, twice := pairs[key]; twice {
					return Report{}
				}
				pairs[key] = v
			}
		}
	}
	if lowerASCII(pairs["identity"]) == "helo" {
		m.Domain, m.HELO = normalDomain(pairs["helo"]), true
	} else {
		m.Domain, m.HELO = identity(pairs["envelope-from"], pairs["helo"])
	}
	return Report{SPF: &m}
}

// valueOf reads a result under the names of the field, old ones too; empty for
// what is none of them.
func valueOf(s string) Value {
	switch v := Value(lowerASCII(strings.TrimSpace(s))); v {
	case ValuePass, ValueFail, ValueSoftFail, ValueNeutral, ValueNone, ValuePolicy, ValueTempError, ValuePermError:
		return v
	case "hardfail":
		return ValueFail
	case "bestguesspass":
		// Outlook: no DMARC record, and it would have passed one.
		return ValueNone
	case "error":
		return ValueTempError
	case "unknown":
		return ValuePermError
	default:
		return ""
	}
}

func bounded(s string, most int) string {
	return s[:min(len(s), most)]
}
