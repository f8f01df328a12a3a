// Package quotation separates what a mail newly says from what it quotes and
// from its signature.
//
// It only sorts lines: each non-blank line of the text ends in exactly one of
// Reply, Quoted and Signature, unchanged and in the order it was written, so
// that nothing a customer said can be lost. Where the evidence is weak a line
// stays in Reply: to cut too little is better than to hide an answer.
//
// What follows from that:
//   - Answers between quoted lines are Reply, wherever they stand; Interleaved
//     then says that Reply alone may lack its context.
//   - A message that is forwarded is content: from its marker on all is Reply.
//     The same holds for a bare "Original Message" or a From/Sent/To/Subject
//     block with nothing new above, since clients write these for a forward too.
//   - A quotation without a mark on each line ends only with the text. It is cut
//     off only under an unmistakable heading and below something new.
//   - Reply is empty only where each line is quoted by a mark of its own (or is
//     a signature), or where the mail is empty.
//   - Blocks of name and contact data count as a signature only with strong
//     evidence, and never if nothing but them was written.
//
// The functions are pure and safe for concurrent use. Time and memory are linear
// in the input; no construct nests or backtracks. Valid UTF-8 in gives valid
// UTF-8 out, and no input makes them panic. Nothing is kept: a crash loses
// nothing.
package quotation
