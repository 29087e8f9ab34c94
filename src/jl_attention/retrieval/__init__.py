"""How many documents can an embedding hold, if every k of them must be some query's top k?

Documents c_1..c_n and queries are vectors of R^d, and the score of a document is its inner product
with the query. A query *returns* a set S of k documents if each of them scores strictly above each
of the others: no ties, no threshold that queries share, no order within S. The critical n of a
dimension is the largest n at which all C(n, k) sets are returned (Weller, Boratko, Naim and Lee,
arXiv 2508.21038, who look for it by gradient descent on unit vectors, with k = 2). Here too
documents and queries are unit vectors, up to rounding; the length of a query changes no order.

Queries are asked for equal scores on S, as attention with k equal weights is: Theorems T5 and T9.
For two unit documents that excludes nothing. Their line leaves the unit ball beyond the segment
between them, so if it meets the hull of the others, the segment does.

A number format stores documents and queries, and adds products up in its accumulator: float64 in
float64, float32 and float16 in float32, int8 in int32, which is exact. A set counts only if its
order is right in every order of summation: if the exact scores of the stored numbers are more than
2 gamma_d |q| |c| apart, gamma_d = d u/(1 - d u), u the accumulator's unit roundoff (Higham,
*Accuracy and Stability of Numerical Algorithms*, 2002, section 3.1). So what is counted is true on
any machine.
"""

from .critical import FORMATS, METHODS, critical_n, predicted_n
from .formats import is_returned, stored
from .given import Certificate, CriticalN, best_queries, every_set
from .learned import learned_documents

__all__ = [
    "FORMATS",
    "METHODS",
    "Certificate",
    "CriticalN",
    "best_queries",
    "critical_n",
    "every_set",
    "is_returned",
    "learned_documents",
    "predicted_n",
    "stored",
]
