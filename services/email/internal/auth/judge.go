package auth

// evidence is all that is known of a mail; judge makes the verdict of it.
type evidence struct {
	from   author
	head   head
	record record
	spf    Method
	dkim   []Method
}

// record is the DMARC record of a domain.
type record struct {
	state recordState
	// strictDKIM and strictSPF are the modes of alignment; only of a record
	// that is present.
	strictDKIM, strictSPF bool
	// reported is dmarc=pass or dmarc=fail of a report, which is final.
	reported Value
	method   Method
}

type recordState int

const (
	// recordUnknown is one that could not be asked for.
	recordUnknown recordState = iota
	recordAbsent
	recordPresent
)

// judge is the table of the package's documentation. A method counts in one of
// three ways: it vouches for the mail, it might have (an answer is missing), or
// it does not.
func (e *evidence) judge() Result {
	vouched, missing := e.weigh(&e.spf, e.record.strictSPF)
	by := e.spf
	for i := range e.dkim {
		v, m := e.weigh(&e.dkim[i], e.record.strictDKIM)
		if v && !vouched {
			vouched, by = true, e.dkim[i]
		}
		missing = missing || m
	}
	r := Result{Domain: e.from.domain, Authors: e.from.addresses}
	denied := e.spf.Value == ValueFail && align(e.spf.Domain, e.from.domain) != unaligned
	switch {
	case e.record.reported == ValuePass:
		r.Verdict, r.Reason = Pass, "DMARC passes by report"
	case e.record.reported == ValueFail:
		r.Verdict, r.Reason = Fail, "DMARC fails by report"
	case vouched:
		r.Verdict, r.Reason = Pass, by.Name+" passes for "+by.Domain
	case missing:
		r.Verdict, r.Reason = None, "an answer is missing that could pass"
	case e.record.state == recordPresent:
		r.Verdict, r.Reason = Fail, "nothing passes, and the domain has a DMARC record"
	case denied:
		r.Verdict, r.Reason = Fail, "SPF of the domain is a hard fail"
	case e.record.state == recordUnknown:
		r.Verdict, r.Reason = None, "nothing passes, and the DMARC record is not known"
	default:
		r.Verdict, r.Reason = None, "nothing passes, and the domain has no DMARC record"
	}
	r.Methods = e.methods(r.Verdict, vouched)
	return r
}

// weigh sets Aligned, and says whether the method vouches for the From domain
// or might have, had no answer been missing.
func (e *evidence) weigh(m *Method, strictMode bool) (vouches, mightHave bool) {
	a := align(m.Domain, e.from.domain)
	m.Aligned = a == strict || a == relaxed && (e.record.state != recordPresent || !strictMode)
	switch m.Value {
	case ValuePass:
		if e.record.state == recordUnknown && a == relaxed {
			// A record that could not be read may ask for strict alignment.
			return false, true
		}
		if m.Domain == "" {
			return false, true
		}
		return m.Aligned, false
	case ValueTempError, "":
		return false, m.Aligned || m.Domain == ""
	default:
		return false, false
	}
}

// methods lists what was looked at; dmarc as a whole first.
func (e *evidence) methods(verdict Verdict, vouched bool) []Method {
	dmarc := e.record.method
	dmarc.Name, dmarc.Domain, dmarc.Aligned = dmarcName, e.from.domain, true
	if e.record.state == recordPresent && e.record.reported == "" {
		switch {
		case vouched:
			dmarc.Value = ValuePass
		case verdict == Fail:
			dmarc.Value = ValueFail
		default:
			dmarc.Value = ValueTempError
		}
	}
	var all []Method
	for _, m := range append([]Method{dmarc, e.spf}, e.dkim...) {
		if m.Value != "" {
			m.Detail = plain(m.Detail)
			all = append(all, m)
		}
	}
	return all
}
