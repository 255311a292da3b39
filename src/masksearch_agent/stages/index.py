"""The index stage: passages become searchable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.retrieval.index import build_index
from masksearch_agent.stages.display import Bar, count_steps
from masksearch_agent.stages.stage import Corpus, IndexFolder, Site, Spent, Stage

__all__ = ("Index",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Index(Stage):
    """Builds the index of a corpus."""

    kind = "index"

    corpus: Corpus
    reading: CorpusSettings
    settings: RetrievalSettings

    @property
    def index(self) -> IndexFolder:
        """The index."""
        return IndexFolder("", self)

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Read and index the passages."""
        read = CorpusReport()
        built = build_index(
            count_steps(read_passages(site.where(self.corpus), self.reading, read), bar),
            folder,
            self.settings,
        )
        failures = Counter(read.failures) + Counter(built.failures)
        return Spent(items=read.read, failed=read.failed + built.failed, failures=dict(failures))
