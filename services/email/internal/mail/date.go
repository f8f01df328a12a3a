package mail

import (
	"strconv"
	"strings"
	"time"
)

// ParseDate reads a Date field: RFC 5322 section 3.3 and its obsolete forms
// (years of two and three digits, zones by name), ISO 8601, asctime, and what is
// met: no weekday, a wrong one, hyphens in the date, dots in the time, AM and
// PM, zones with a colon, twice or as GMT+2. A date without a zone, and zones
// that nobody knows, count as UTC. It fails for what has no day, month and year,
// or no such day; years lie between 1970 and 9999.
func ParseDate(s string) (time.Time, bool) {
	s = cut(stripComments(s), 128)
	var d dateParts
	d.zone = time.UTC
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' || r == '"' }) {
		d.word(word)
	}
	return d.time()
}

type dateParts struct {
	day, year            int
	month                time.Month
	hour, minute, second int
	nanosecond           int
	hasTime, hasZone     bool
	pm, am               bool
	zone                 *time.Location
	digits               int // of the year
	bad                  bool
}

var monthNames = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}

// zoneHours are offsets by name; RFC 5322 section 4.3 names the American ones.
// Military letters were defined the wrong way round and count as UTC.
var zoneHours = map[string]float64{
	"ut": 0, "gmt": 0, "utc": 0, "z": 0, "wet": 0,
	"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
	"akst": -9, "akdt": -8, "hst": -10, "nst": -3.5, "ndt": -2.5, "ast": -4, "adt": -3,
	"bst": 1, "cet": 1, "met": 1, "mez": 1, "west": 1, "cest": 2, "mest": 2, "mesz": 2, "eet": 2, "sast": 2,
	"eest": 3, "msk": 3, "hkt": 8, "sgt": 8, "jst": 9, "kst": 9, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
}

func (d *dateParts) word(w string) {
	lower := strings.ToLower(w)
	switch {
	case lower == "am":
		d.am = true
	case lower == "pm":
		d.pm = true
	case strings.ContainsRune(w, 'T') && strings.Count(w, "-") >= 2 && w[0] >= '0' && w[0] <= '9':
		date, clock, _ := strings.Cut(w, "T")
		d.date(date)
		d.clock(clock)
	case (w[0] == '+' || w[0] == '-') && len(w) > 1 && w[1] >= '0' && w[1] <= '9':
		d.offset(w)
	case strings.Contains(w, ":") || (strings.Count(w, ".") == 2 && d.year != 0):
		d.clock(w)
	case w[0] >= '0' && w[0] <= '9':
		if strings.Count(w, "-") == 2 {
			d.date(w)
			return
		}
		d.number(strings.TrimRight(w, "."))
	default:
		if strings.Count(w, "-") == 2 {
			d.date(w)
			return
		}
		d.name(lower)
	}
}

// number is a day or a year, whichever is missing.
func (d *dateParts) number(w string) {
	n, err := strconv.Atoi(w)
	switch {
	case err != nil:
		d.bad = true
	case d.day == 0 && len(w) <= 2:
		d.day = n
	case d.year == 0 && d.digits == 0:
		d.year, d.digits = n, len(w)
	}
}

// date is 22-Aug-2002 or 2002-08-22.
func (d *dateParts) date(w string) {
	parts := strings.Split(w, "-")
	if len(parts) != 3 {
		d.bad = true
		return
	}
	if len(parts[0]) == 4 {
		year, err1 := strconv.Atoi(parts[0])
		month, err2 := strconv.Atoi(parts[1])
		day, err3 := strconv.Atoi(parts[2])
		if err1 != nil || err2 != nil || err3 != nil {
			d.bad = true
			return
		}
		d.year, d.digits, d.month, d.day = year, 4, time.Month(month), day
		return
	}
	d.number(parts[0])
	d.name(strings.ToLower(parts[1]))
	d.number(parts[2])
}

// name is a month, a zone or a weekday; all else is skipped.
func (d *dateParts) name(lower string) {
	lower = strings.Trim(lower, ".'")
	if len(lower) >= 3 {
		for i, month := range monthNames {
			if d.month == 0 && lower[:3] == month {
				d.month = time.Month(i + 1)
				return
			}
		}
	}
	if d.hasZone {
		return
	}
	if i := strings.IndexAny(lower, "+-"); i > 0 {
		// GMT+0200
		d.offset(lower[i:])
		return
	}
	if hours, ok := zoneHours[lower]; ok && (d.hasTime || d.year != 0) {
		d.setZone(int(hours * 3600))
	}
}

// clock is 18:26:25, 18:26, 18.26.25, with a fraction, AM, PM or a zone behind it.
func (d *dateParts) clock(w string) {
	lower := strings.ToLower(w)
	if clock, ok := strings.CutSuffix(lower, "pm"); ok {
		d.pm, lower = true, clock
	} else if clock, ok := strings.CutSuffix(lower, "am"); ok {
		d.am, lower = true, clock
	}
	if clock, ok := strings.CutSuffix(lower, "z"); ok {
		d.setZone(0)
		lower = clock
	} else if i := strings.LastIndexAny(lower, "+-"); i > 0 {
		d.offset(lower[i:])
		lower = lower[:i]
	}
	if !strings.Contains(lower, ":") {
		lower = strings.ReplaceAll(lower, ".", ":")
	}
	lower, fraction, _ := strings.Cut(lower, ".")
	parts := strings.Split(lower, ":")
	if len(parts) < 2 || len(parts) > 3 || d.hasTime {
		d.bad = d.bad || !d.hasTime
		return
	}
	var n [3]int
	for i, part := range parts {
		v, err := strconv.Atoi(part)
		if err != nil || v < 0 {
			d.bad = true
			return
		}
		n[i] = v
	}
	if fraction != "" {
		if v, err := strconv.Atoi((fraction + "000000000")[:9]); err == nil && v >= 0 {
			d.nanosecond = v
		}
	}
	d.hour, d.minute, d.second, d.hasTime = n[0], n[1], n[2], true
}

// offset is +0200, +02:00, +2.
func (d *dateParts) offset(w string) {
	if d.hasZone {
		return
	}
	digits := strings.ReplaceAll(w[1:], ":", "")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 {
		return
	}
	minutes := n * 60
	if len(digits) > 2 {
		minutes = n/100*60 + n%100
	}
	if minutes > 24*60 || len(digits) > 4 {
		return
	}
	if w[0] == '-' {
		minutes = -minutes
	}
	d.setZone(minutes * 60)
}

func (d *dateParts) setZone(seconds int) {
	d.hasZone = true
	if seconds != 0 {
		d.zone = time.FixedZone("", seconds)
	}
}

func (d *dateParts) time() (time.Time, bool) {
	year := d.year
	switch {
	case d.digits <= 2 && year < 50:
		year += 2000
	case d.digits <= 3:
		// RFC 5322 section 4.3: also what a year-2000 error made of 2002.
		year += 1900
	}
	hour := d.hour
	if d.pm && hour < 12 {
		hour += 12
	} else if d.am && hour == 12 {
		hour = 0
	}
	if d.bad || d.day < 1 || d.month < 1 || d.month > 12 || d.digits == 0 || year < 1970 || year > 9999 ||
		hour > 23 || d.minute > 59 || d.second > 60 {
		return time.Time{}, false
	}
	t := time.Date(year, d.month, d.day, hour, d.minute, min(d.second, 59), d.nanosecond, d.zone)
	if t.Day() != d.day {
		return time.Time{}, false
	}
	return t, true
}
